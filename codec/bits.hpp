// SPDX-License-Identifier: Apache-2.0
// Bits, least significant first, through a 64-bit buffer; at most 32 bits per call.
#pragma once

#include <algorithm>
#include <bit>
#include <cstring>

#include "codec/bytes.hpp"
#include "codec/fail.hpp"

namespace kvzip {

class BitWriter {
 public:
  explicit BitWriter(ByteWriter& out) : out_(out) {}
  void put(std::uint32_t value, unsigned bits) {
    buffer_ |= static_cast<std::uint64_t>(value) << filled_;
    filled_ += bits;
    if (filled_ >= 32) {
      out_.put(static_cast<std::uint32_t>(buffer_));
      buffer_ >>= 32;
      filled_ -= 32;
    }
  }
  /// Writes the last bits, zero-padded to a byte.
  void close() {
    for (; filled_ > 0; filled_ -= filled_ < 8 ? filled_ : 8, buffer_ >>= 8) {
      out_.put(static_cast<std::uint8_t>(buffer_));
    }
  }

 private:
  ByteWriter& out_;
  std::uint64_t buffer_ = 0;
  unsigned filled_ = 0;
};

class BitReader {
 public:
  explicit BitReader(ByteView view) : view_(view) {}
  std::uint32_t get(unsigned bits) {
    fill(bits);
    const auto value = static_cast<std::uint32_t>(buffer_ & ((std::uint64_t{1} << bits) - 1));
    drop(bits);
    return value;
  }
  /// The number of ones before the next zero, which is taken too.
  std::uint64_t get_ones() {
    for (std::uint64_t count = 0;;) {
      fill(1);
      const unsigned ones = std::min(static_cast<unsigned>(std::countr_one(buffer_)), filled_);
      count += ones;
      drop(ones);
      if (filled_ == 0) continue;
      drop(1);
      return count;
    }
  }
  /// Every byte must have been used, and what pads the last one must be zero.
  void close() const {
    const bool padded = (buffer_ & ((std::uint64_t{1} << filled_) - 1)) == 0;
    if (at_ - filled_ / 8 != view_.size() || !padded) fail(ErrorCode::corrupt, "bits are left over");
  }

 private:
  /// Makes at least `bits` bits available, eight bytes at a time where the view has them. Above the `filled_` bits the
  /// buffer may hold some that come next; filling again puts the same bits there.
  void fill(unsigned bits) {
    if (filled_ >= bits) return;
    if (view_.size() >= sizeof buffer_ && at_ <= view_.size() - sizeof buffer_) {
      std::uint64_t word;
      std::memcpy(&word, view_.data() + at_, sizeof word);
      buffer_ |= word << filled_;
      const unsigned bytes = (63 - filled_) / 8;
      at_ += bytes;
      filled_ += 8 * bytes;
      return;
    }
    while (filled_ < bits) {
      if (at_ == view_.size()) fail(ErrorCode::truncated, "the bits end too early");
      buffer_ |= static_cast<std::uint64_t>(view_[at_++]) << filled_;
      filled_ += 8;
    }
  }
  void drop(unsigned bits) {
    buffer_ >>= bits;
    filled_ -= bits;
  }

  ByteView view_;
  std::size_t at_ = 0;
  std::uint64_t buffer_ = 0;
  unsigned filled_ = 0;
};

}  // namespace kvzip
