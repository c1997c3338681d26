// SPDX-License-Identifier: Apache-2.0
#include "tests/support/failing_call.hpp"

#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>

namespace kvzip::test {
namespace {

struct Plan {
  std::atomic<bool> armed = false, reached = false;
  std::atomic<std::uint64_t> calls = 0;
  Call call{};
  int error = 0;
  std::uint64_t first = 0, count = 0;
};
Plan g_plan;

bool fails(Call call) {
  if (!g_plan.armed || call != g_plan.call) return false;
  const std::uint64_t number = ++g_plan.calls;
  if (number < g_plan.first || number - g_plan.first >= g_plan.count) return false;
  g_plan.reached = true;
  errno = g_plan.error;
  return true;
}

}  // namespace

FailingCall::FailingCall(Call call, int error, std::uint64_t first, std::uint64_t count) {
  g_plan.call = call;
  g_plan.error = error;
  g_plan.first = first;
  g_plan.count = count;
  g_plan.calls = 0;
  g_plan.reached = false;
  g_plan.armed = true;
}

FailingCall::~FailingCall() {
  g_plan.armed = false;
}

bool FailingCall::reached() const {
  return g_plan.reached;
}

}  // namespace kvzip::test

// The linker takes those of the program before those of libraries. A sanitizer's own looks at the bytes that are given.

extern "C" ssize_t __interceptor_pwrite(int fd, const void* bytes, size_t count, off_t offset) __attribute__((weak));

extern "C" ssize_t pwrite(int fd, const void* bytes, size_t count, off_t offset) {
  if (kvzip::test::fails(kvzip::test::Call::pwrite)) return -1;
  if (__interceptor_pwrite != nullptr) return __interceptor_pwrite(fd, bytes, count, offset);
  return ::syscall(SYS_pwrite64, fd, bytes, count, offset);
}

/// The descriptor is closed all the same, as Linux does it.
extern "C" int close(int fd) {
  const auto result = static_cast<int>(::syscall(SYS_close, fd));
  return kvzip::test::fails(kvzip::test::Call::close) ? -1 : result;
}
