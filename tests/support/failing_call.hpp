// SPDX-License-Identifier: Apache-2.0
// Calls of the system that fail when a test wants them to: those of the whole process, in place of the C library's.
#pragma once

#include <cstdint>

namespace kvzip::test {

enum class Call : std::uint8_t { pwrite, close };

/// While one lives, calls from the `first` on, `count` of them, fail with `error`, an errno. One at a time.
class FailingCall {
 public:
  static constexpr std::uint64_t kAll = ~std::uint64_t{0};
  FailingCall(Call call, int error, std::uint64_t first = 1, std::uint64_t count = kAll);
  ~FailingCall();
  FailingCall(const FailingCall&) = delete;
  FailingCall& operator=(const FailingCall&) = delete;
  /// Whether one has failed.
  bool reached() const;
};

}  // namespace kvzip::test
