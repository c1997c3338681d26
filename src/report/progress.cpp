// SPDX-License-Identifier: Apache-2.0
#include "src/report/progress.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstdio>
#include <memory>
#include <optional>
#include <utility>

#include "codec/fail.hpp"
#include "formats/file.hpp"
#include "src/report/report.hpp"

namespace kvzip::tool {
namespace {

using namespace std::chrono_literals;
constexpr auto kPatience = 500ms, kRefresh = 200ms;
constexpr auto kSettled = 2s;  // from then on the time left is worth saying
// With what else is in a line and its escapes less than PIPE_BUF, which a pipe takes whole or not at all.
constexpr std::size_t kLongestTold = 512;
constexpr int kLastTry = 100;           // milliseconds that the last line of a pass waits for room
constexpr std::size_t kLeastLabel = 8;  // columns

/// Who is told; nobody when below 0.
struct Listener {
  int descriptor = -1;
  bool socket = false;
};

Listener& listener() {
  static Listener to;
  return to;
}

/// The same pipe by a description of its own, because O_NONBLOCK would hold for all who share the caller's; the
/// caller's where that cannot be. What poll(2) says does not do: another process may take the room before the write.
int without_waiting(int descriptor, int flags) {
  if ((flags & O_ACCMODE) == O_RDONLY) return descriptor;  // stays as unfit as it is
  const int own = ::open(fmt::format("/proc/self/fd/{}", descriptor).c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC);
  return own < 0 ? descriptor : own;
}

bool is_null_device(const struct stat& status) {
  struct stat null {};
  return S_ISCHR(status.st_mode) && ::stat("/dev/null", &null) == 0 && status.st_rdev == null.st_rdev;
}

bool& hidden() {
  static bool is = false;
  return is;
}

double seconds(std::chrono::steady_clock::duration time) {
  return std::chrono::duration<double>(time).count();
}

/// Columns of the terminal; one that does not say has as many as any.
std::size_t columns() {
  winsize size{};
  return ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

bool continues(char c) {
  return (static_cast<unsigned char>(c) & 0xc0) == 0x80;
}

/// The end of it, which of a path says most, in so many columns.
std::string last_columns(const std::string& text, std::size_t wanted) {
  if (width_of(text) <= wanted) return text;
  constexpr std::string_view kDots = "...";
  std::size_t at = text.size();
  for (std::size_t left = wanted - kDots.size(); left > 0 && at > 0; --left) {
    do --at;
    while (at > 0 && continues(text[at]));
  }
  return std::string(kDots) + text.substr(at);
}

std::string first_columns(const std::string& text, std::size_t wanted) {
  std::size_t at = 0;
  for (; at < text.size() && wanted > 0; --wanted) {
    do ++at;
    while (at < text.size() && continues(text[at]));
  }
  return text.substr(0, at);
}

}  // namespace

bool report_progress_to(int descriptor) {
  const int flags = ::fcntl(descriptor, F_GETFL);
  struct stat status {};
  if (flags < 0 || ::fstat(descriptor, &status) != 0) return false;
  listener() = {S_ISFIFO(status.st_mode) ? without_waiting(descriptor, flags) : descriptor, S_ISSOCK(status.st_mode)};
  return true;
}

bool progress_on_output() {
  const int descriptor = listener().descriptor;
  struct stat lines {
  }, output{};
  if (descriptor < 0 || ::fstat(descriptor, &lines) != 0 || ::fstat(STDOUT_FILENO, &output) != 0) return false;
  return lines.st_dev == output.st_dev && lines.st_ino == output.st_ino && !is_null_device(output);
}

void hide_progress() {
  hidden() = true;
  notes_clear_line(true);
}

ProgressLine::ProgressLine(std::string_view label, bool wanted, std::string_view unit)
    : label_(printable(label)),
      unit_(unit),
      wanted_(wanted && !hidden() && isatty(STDERR_FILENO) == 1),
      start_(Clock::now()),
      next_(start_ + kPatience),
      next_told_(start_) {}

void ProgressLine::label(std::string_view text) {
  label_ = printable(text);
}

ProgressLine::~ProgressLine() {
  if (!shown_) return;
  std::fputs("\r\033[K", stderr);
  notes_clear_line(false);
}

Progress ProgressLine::callback() {
  if (!wanted_ && listener().descriptor < 0) return {};
  return [this](std::uint64_t done, std::uint64_t total) { show(done, total); };
}

void ProgressLine::show(std::uint64_t done, std::uint64_t total) {
  const auto now = Clock::now();
  if (listener().descriptor >= 0) tell_programs(now, done, total);
  if (wanted_) show_people(now, done, total);
}

std::string ProgressLine::numbers(double spent, std::uint64_t done, std::uint64_t total) const {
  const double share = total == 0 ? 1 : static_cast<double>(done) / static_cast<double>(total);
  const std::uint64_t source = unit_.empty() ? done : source_;
  const bool open = total == 0 && done > 0;
  std::string line = open            ? size_text(done)
                     : unit_.empty() ? fmt::format("{} of {}", size_text(done), size_text(total))
                                     : fmt::format("{} of {} {}", done, total, unit_);
  if (!open) line += fmt::format(" ({:.0f} %)", 100 * share);
  if (source > 0)
    line += fmt::format(", {}/s", size_text(static_cast<std::uint64_t>(static_cast<double>(source) / spent)));
  if (written_ > 0) line += fmt::format(", {:.2f}x", ratio_of(source, written_).value_or(0));
  if (!open && share > 0.01 && spent > seconds(kSettled))
    line += fmt::format(", {:.0f} s left", std::ceil(spent / share - spent));
  return line;
}

void ProgressLine::show_people(Clock::time_point now, std::uint64_t done, std::uint64_t total) {
  if (now < next_) return;
  next_ = now + kRefresh;
  shown_ = true;
  const std::size_t room = columns() - 1;  // a line that fills a terminal goes on in the next
  const std::string said = ": " + numbers(seconds(now - start_), done, total);
  const std::size_t left = room > said.size() + kLeastLabel ? room - said.size() : kLeastLabel;
  const std::string line = "\r" + first_columns(last_columns(label_, left) + said, room) + "\033[K";
  std::fwrite(line.data(), 1, line.size(), stderr);
  std::fflush(stderr);
  notes_clear_line(true);
}

/// Who no longer listens is told no more, and nobody is waited for: what a full pipe has no room for is left out.
void ProgressLine::tell_programs(Clock::time_point now, std::uint64_t done, std::uint64_t total) {
  if (now < next_told_ && done != total) return;
  next_told_ = now + kRefresh;
  pollfd ready{listener().descriptor, POLLOUT, 0};
  if (::poll(&ready, 1, done == total ? kLastTry : 0) <= 0) return;
  const bool open = total == 0 && done > 0;
  Json told{{"what", label_.substr(0, kLongestTold)},
            {"done", done},
            {"total", open ? Json(nullptr) : Json(total)},
            {"seconds", seconds(now - start_)}};
  if (!unit_.empty()) told["unit"] = unit_;
  if (written_ > 0) told["written"] = written_;
  const std::string line = told.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  const ssize_t put = listener().socket
                          ? ::send(listener().descriptor, line.data(), line.size(), MSG_DONTWAIT | MSG_NOSIGNAL)
                          : ::write(listener().descriptor, line.data(), line.size());
  if (put != static_cast<ssize_t>(line.size()) && !(put < 0 && errno == EAGAIN)) listener().descriptor = -1;
}

Progress progress_when_called(const std::string& label, bool wanted, const std::string& unit) {
  const auto line = std::make_shared<std::optional<ProgressLine>>();
  return [=](std::uint64_t done, std::uint64_t total) {
    if (!*line) line->emplace(label, wanted, unit);
    if (const Progress show = (*line)->callback()) show(done, total);
    if (done == total) line->reset();
  };
}

namespace {

bool& gives_up_silent_pipes() {
  static bool gives_up = false;
  return gives_up;
}

}  // namespace

void give_up_silent_pipes() {
  gives_up_silent_pipes() = true;
}

void show_copies(bool wanted) {
  watch_copies([wanted](const std::string& name) { return progress_when_called("copy of " + name, wanted, {}); });
  watch_waits([wanted, told = std::string()](const std::string& name, unsigned seconds) mutable {
    constexpr unsigned kSilence = 30;
    if (wanted && std::exchange(told, name) != name) {
      note(fmt::format("{}: a pipe, waiting for somebody to write to it", name));
    }
    if (!gives_up_silent_pipes() || seconds < kSilence) return;
    fail_in(name, ErrorCode::io, "a pipe that nobody writes to: given up after {} s", kSilence);
  });
}

void MeteredWriter::append(Part& part) {
  for (const Bytes& coded : part.coded) bytes_ += coded.size();
  to_.append(part);
  line_.written(bytes_);
}

}  // namespace kvzip::tool
