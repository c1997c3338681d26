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
/// True where these lines go where standard output goes, and that is not /dev/null.
bool progress_on_output();

/// No more lines for people: this process shares the terminal with the one that shows them.
void hide_progress();

/// Shows how far the work is, on a terminal only and only when it takes a while. Clears its line at the end.
class ProgressLine {
 public:
  /// `unit` is what is counted: nothing for bytes, or as "layers".
  ProgressLine(std::string_view label, bool wanted, std::string_view unit = {});
  ~ProgressLine();
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;
  /// A total of 0 is not known yet, where anything is done.
  Progress callback();
  void label(std::string_view text);
  /// What was made so far, of `source` bytes, or where they are what is counted of those; shown with the next call.
  void written(std::uint64_t bytes, std::uint64_t source = 0) { written_ = bytes, source_ = source; }

 private:
  using Clock = std::chrono::steady_clock;
  void show(std::uint64_t done, std::uint64_t total);
  void show_people(Clock::time_point now, std::uint64_t done, std::uint64_t total);
  void tell_programs(Clock::time_point now, std::uint64_t done, std::uint64_t total);
  std::string numbers(double spent, std::uint64_t done, std::uint64_t total) const;

  std::string label_, unit_;
  bool wanted_, shown_ = false;
  std::uint64_t written_ = 0, source_ = 0;  // 0 = not known
  Clock::time_point start_, next_, next_told_;
};

/// The callback of a line that is there from its first call to the one that says that all is done.
Progress progress_when_called(const std::string& label, bool wanted, const std::string& unit);

/// How far the copies of pipes are, too, from now on, and which pipes are waited for.
void show_copies(bool wanted);
/// From now on a named pipe that nobody opens for writing is given up after half a minute: there are other inputs.
void give_up_silent_pipes();

/// Hands everything on, and tells what a container takes so far.
class MeteredWriter final : public DumpWriter {
 public:
  MeteredWriter(DumpWriter& to, ProgressLine& line) : to_(to), line_(line) {}
  bool plans() const override { return to_.plans(); }
  std::uint64_t part_count() const override { return to_.part_count(); }
  Part part(std::uint64_t index) const override { return to_.part(index); }
  void prepare(Part& part) const override { to_.prepare(part); }
  void append(Part& part) override;
  void made_from(const InputList& inputs) override { to_.made_from(inputs); }
  void finish() override { to_.finish(); }

 private:
  DumpWriter& to_;
  ProgressLine& line_;
  std::uint64_t bytes_ = 0;
};

}  // namespace kvzip::tool
