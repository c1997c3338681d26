// SPDX-License-Identifier: Apache-2.0
// How far the work is: a line for people on a terminal, lines of JSON for programs.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "src/report/report.hpp"

namespace kvzip::tool {

/// From now on every ProgressLine, wanted or not, also writes lines of JSON to a descriptor. False where it is not
/// open.
bool report_progress_to(int descriptor);

/// No more lines for people: several processes share the terminal.
void hide_progress();

/// Shows how far the work is, on a terminal only and only when it takes a while. Clears its line at the end.
class ProgressLine {
 public:
  ProgressLine(std::string_view label, bool wanted);
  ~ProgressLine();
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;
  Progress callback();
  void label(std::string_view text);

 private:
  using Clock = std::chrono::steady_clock;
  void show(std::uint64_t done, std::uint64_t total);
  void show_people(Clock::time_point now, std::uint64_t done, std::uint64_t total);
  void tell_programs(Clock::time_point now, std::uint64_t done, std::uint64_t total);

  std::string label_;
  bool wanted_, shown_ = false;
  Clock::time_point start_, next_, next_told_;
};

}  // namespace kvzip::tool
