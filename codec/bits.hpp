// SPDX-License-Identifier: Apache-2.0
// Bits, least significant first, through a 64-bit buffer; at most 32 bits per call.
#pragma once

#include "codec/bytes.hpp"

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
    while (filled_ < bits) {
      if (at_ == view_.size()) fail(ErrorCode::truncated, "the bits end too early");
      buffer_ |= static_cast<std::uint64_t>(view_[at_++]) << filled_;
      filled_ += 8;
    }
    const auto value = static_cast<std::uint32_t>(buffer_ & ((std::uint64_t{1} << bits) - 1));
    buffer_ >>= bits;
    filled_ -= bits;
    return value;
  }
  /// Every byte must have been used, and what pads the last one must be zero.
  void close() const {
    if (at_ != view_.size() || buffer_ != 0) fail(ErrorCode::corrupt, "bits are left over");
  }

 private:
  ByteView view_;
  std::size_t at_ = 0;
  std::uint64_t buffer_ = 0;
  unsigned filled_ = 0;
};

}  // namespace kvzip
