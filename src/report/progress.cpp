// SPDX-License-Identifier: Apache-2.0
#include "src/report/progress.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>

namespace kvzip::tool {
namespace {

using namespace std::chrono_literals;
constexpr auto kPatience = 500ms, kRefresh = 200ms;
constexpr auto kSettled = 2s;  // from then on the time left is worth saying

/// None when below 0.
int& told_descriptor() {
  static int descriptor = -1;
  return descriptor;
}

bool& hidden() {
  static bool is = false;
  return is;
}

double seconds(std::chrono::steady_clock::duration time) {
  return std::chrono::duration<double>(time).count();
}

}  // namespace

bool report_progress_to(int descriptor) {
  if (::fcntl(descriptor, F_GETFD) < 0) return false;
  told_descriptor() = descriptor;
  return true;
}

void hide_progress() {
  hidden() = true;
}

ProgressLine::ProgressLine(std::string_view label, bool wanted)
    : label_(printable(label)),
      wanted_(wanted && !hidden() && isatty(STDERR_FILENO) == 1),
      start_(Clock::now()),
      next_(start_ + kPatience),
      next_told_(start_) {}

void ProgressLine::label(std::string_view text) {
  label_ = printable(text);
}

ProgressLine::~ProgressLine() {
  if (shown_) std::fputs("\r\033[K", stderr);
}

Progress ProgressLine::callback() {
  if (!wanted_ && told_descriptor() < 0) return {};
  return [this](std::uint64_t done, std::uint64_t total) { show(done, total); };
}

void ProgressLine::show(std::uint64_t done, std::uint64_t total) {
  const auto now = Clock::now();
  if (told_descriptor() >= 0) tell_programs(now, done, total);
  if (wanted_) show_people(now, done, total);
}

void ProgressLine::show_people(Clock::time_point now, std::uint64_t done, std::uint64_t total) {
  if (now < next_) return;
  next_ = now + kRefresh;
  shown_ = true;
  const double share = total == 0 ? 1 : static_cast<double>(done) / static_cast<double>(total);
  const double spent = seconds(now - start_);
  std::string line = fmt::format("\r{}: {} of {} ({:.0f} %), {}/s", label_, size_text(done), size_text(total),
                                 100 * share, size_text(static_cast<std::uint64_t>(static_cast<double>(done) / spent)));
  if (share > 0.01 && now - start_ > kSettled) {
    line += fmt::format(", {:.0f} s left", std::ceil(spent / share - spent));
  }
  line += "\033[K";
  std::fwrite(line.data(), 1, line.size(), stderr);
  std::fflush(stderr);
}

/// Who no longer listens is told no more.
void ProgressLine::tell_programs(Clock::time_point now, std::uint64_t done, std::uint64_t total) {
  if (now < next_told_ && done != total) return;
  next_told_ = now + kRefresh;
  const Json told{{"what", label_}, {"done", done}, {"total", total}, {"seconds", seconds(now - start_)}};
  const std::string line = told.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  if (::write(told_descriptor(), line.data(), line.size()) != static_cast<ssize_t>(line.size())) told_descriptor() = -1;
}

}  // namespace kvzip::tool
