// SPDX-License-Identifier: Apache-2.0
// Reads the runs of one slice, several at once where little lies between them.
#pragma once

#include <cstring>
#include <functional>
#include <span>
#include <vector>

#include "kvzip/dtype.hpp"

namespace kvzip {

/// Fills the span from this offset on, or throws.
using ReadAt = std::function<void(std::uint64_t offset, std::span<std::byte> out)>;

class RunReader {
 public:
  RunReader(const ReadAt& read_at, std::span<std::byte> out) : read_at_(read_at), out_(out) {}

  /// Bytes from `offset` on belong at `to` of the output. Offsets ascend.
  void add(std::uint64_t offset, std::uint64_t to, std::uint64_t bytes) {
    if (!runs_.empty() && (offset - end_ > kMaxGap || offset + bytes - runs_.front().offset > kMaxSpan)) flush();
    runs_.push_back({offset, to, bytes});
    end_ = offset + bytes;
  }

  void flush() {
    if (runs_.size() == 1) read_at_(runs_[0].offset, out_.subspan(runs_[0].to, runs_[0].bytes));
    if (runs_.size() > 1) {
      const std::uint64_t base = runs_.front().offset;
      scratch_.resize(end_ - base);
      read_at_(base, scratch_);
      for (const Run& run : runs_) {
        std::memcpy(out_.data() + run.to, scratch_.data() + (run.offset - base), run.bytes);
      }
    }
    runs_.clear();
  }

 private:
  static constexpr std::uint64_t kMaxGap = 16384, kMaxSpan = 1 << 20;
  struct Run {
    std::uint64_t offset, to, bytes;
  };

  const ReadAt& read_at_;
  std::span<std::byte> out_;
  std::vector<Run> runs_;
  std::uint64_t end_ = 0;
  Bytes scratch_;
};

}  // namespace kvzip
