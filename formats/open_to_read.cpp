// SPDX-License-Identifier: Apache-2.0
// A named pipe opens once somebody opens it for writing (fifo(7)), which may be never: so it is opened without that and
// looked at, and whoever watches hears how long nobody has come.
#include <fcntl.h>
#include <linux/magic.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>

#include "formats/file_calls.hpp"

namespace kvzip {
namespace {

std::function<void(const std::string& name, unsigned seconds)>& waits_watch() {
  static std::function<void(const std::string& name, unsigned seconds)> watch;
  return watch;
}

/// One that stands in a folder: a shell's <(...) has a writer from the start, or had one.
bool is_named_pipe(const std::string& path) {
  struct stat status {};
  struct statfs system {};
  return ::stat(path.c_str(), &status) == 0 && S_ISFIFO(status.st_mode) && ::statfs(path.c_str(), &system) == 0 &&
         system.f_type != PIPEFS_MAGIC;
}

/// An empty pipe has no end while somebody has it open for writing: tee(2) finds that out, and takes nothing.
bool has_writer(int fd) {
  std::array<int, 2> scratch{};
  if (::pipe2(scratch.data(), O_CLOEXEC | O_NONBLOCK) != 0) return true;
  const FileDescriptor read_end(scratch[0]), write_end(scratch[1]);
  const ssize_t there = ::tee(fd, write_end.get(), 1, SPLICE_F_NONBLOCK);
  return there > 0 || (there < 0 && errno == EAGAIN);
}

void wait_for_writer(int fd, const std::string& path) {
  constexpr int kLookEveryMs = 100;
  const auto start = std::chrono::steady_clock::now();
  unsigned told = 0;
  for (pollfd pipe{fd, POLLIN, 0}; ::poll(&pipe, 1, kLookEveryMs) <= 0 && !has_writer(fd);) {
    const auto spent = std::chrono::steady_clock::now() - start;
    const auto seconds = static_cast<unsigned>(std::chrono::duration_cast<std::chrono::seconds>(spent).count());
    if (seconds > told) waits_watch()(path, told = seconds);
  }
}

}  // namespace

void watch_waits(std::function<void(const std::string& name, unsigned seconds)> watch) {
  waits_watch() = std::move(watch);
}

FileDescriptor open_to_read(const std::string& path) {
  const bool waits = waits_watch() && is_named_pipe(path);
  FileDescriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | (waits ? O_NONBLOCK : 0)));
  if (fd.get() < 0 || !waits) return fd;
  wait_for_writer(fd.get(), path);
  if (::fcntl(fd.get(), F_SETFL, 0) != 0) fail_errno(path, "open");
  return fd;
}

}  // namespace kvzip
