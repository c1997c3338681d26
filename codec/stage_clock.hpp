// SPDX-License-Identifier: Apache-2.0
// Where the time of one encode or decode goes: each moment counts for one step only, the innermost.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <utility>

#include "codec/limits.hpp"

namespace kvzip {

class StageClock {
 public:
  // Steps: stage i of the pipeline, or one of these.
  static constexpr std::size_t kCoder = limits::kStages, kConvert = kCoder + 1, kFrame = kConvert + 1;
  static constexpr std::size_t kSteps = kFrame + 1;  // frame: tile, directory, copies: what no other step is

  std::array<std::uint64_t, kSteps> nanoseconds{};

 private:
  friend class StageTime;
  using Time = std::chrono::steady_clock::time_point;

  std::size_t step_ = kSteps;  // none
  Time since_;

  std::size_t change(std::size_t step) {
    const Time now = std::chrono::steady_clock::now();
    if (step_ < kSteps) nanoseconds[step_] += static_cast<std::uint64_t>((now - since_) / std::chrono::nanoseconds(1));
    since_ = now;
    return std::exchange(step_, step);
  }
};

/// While it lives, time counts for its step. Without a clock it does nothing.
class StageTime {
 public:
  StageTime(StageClock* clock, std::size_t step) : clock_(clock) {
    if (clock_ != nullptr) outer_ = clock_->change(step);
  }
  ~StageTime() {
    if (clock_ != nullptr) clock_->change(outer_);
  }
  StageTime(const StageTime&) = delete;
  StageTime& operator=(const StageTime&) = delete;

 private:
  StageClock* clock_;
  std::size_t outer_ = 0;
};

}  // namespace kvzip
