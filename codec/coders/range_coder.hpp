// SPDX-License-Identifier: Apache-2.0
// Range coder with 15-bit frequencies (Martin 1979; carry propagation as in LZMA): 32-bit range, bytes out when it
// falls below 2^24.
#pragma once

#include <cstdint>

#include "codec/bytes.hpp"
#include "codec/fail.hpp"

namespace kvzip {

inline constexpr unsigned kFrequencyBits = 15;
inline constexpr std::uint32_t kFrequencyTotal = 1u << kFrequencyBits;

class RangeEncoder {
 public:
  explicit RangeEncoder(Bytes& out) : out_(out) {}

  /// The symbol owns [start, start + size) of kFrequencyTotal; size > 0.
  void encode(std::uint32_t start, std::uint32_t size) {
    const std::uint32_t unit = range_ >> kFrequencyBits;
    low_ += std::uint64_t{unit} * start;
    range_ = unit * size;
    while (range_ < (1u << 24)) {
      range_ <<= 8;
      shift();
    }
  }
  void finish() {
    for (int i = 0; i < 5; ++i) shift();
  }

 private:
  void shift() {
    if (low_ < 0xff000000u || low_ >= (std::uint64_t{1} << 32)) {
      const auto carry = static_cast<std::uint8_t>(low_ >> 32);
      if (started_) out_.push_back(static_cast<std::byte>(cache_ + carry));
      for (; pending_ > 0; --pending_) out_.push_back(static_cast<std::byte>(0xff + carry));
      cache_ = static_cast<std::uint8_t>(low_ >> 24);
      started_ = true;
    } else {
      ++pending_;
    }
    low_ = (low_ & 0x00ffffffu) << 8;
  }

  Bytes& out_;
  std::uint64_t low_ = 0, pending_ = 0;
  std::uint32_t range_ = 0xffffffffu;
  std::uint8_t cache_ = 0;
  bool started_ = false;
};

class RangeDecoder {
 public:
  explicit RangeDecoder(ByteView in) : in_(in) {
    for (int i = 0; i < 4; ++i) code_ = code_ << 8 | next();
  }
  /// A number below kFrequencyTotal that lies in the next symbol's interval.
  std::uint32_t peek() {
    unit_ = range_ >> kFrequencyBits;
    const std::uint32_t value = code_ / unit_;
    return value < kFrequencyTotal ? value : kFrequencyTotal - 1;
  }
  void consume(std::uint32_t start, std::uint32_t size) {
    code_ -= unit_ * start;
    range_ = unit_ * size;
    while (range_ < (1u << 24)) {
      range_ <<= 8;
      code_ = code_ << 8 | next();
    }
  }
  /// Everything must have been used.
  void finish() const {
    if (at_ != in_.size()) fail(ErrorCode::corrupt, "{} bytes are left over", in_.size() - at_);
  }

 private:
  std::uint8_t next() {
    if (at_ == in_.size()) fail(ErrorCode::truncated, "the coded symbols end too early");
    return static_cast<std::uint8_t>(in_[at_++]);
  }

  ByteView in_;
  std::size_t at_ = 0;
  std::uint32_t range_ = 0xffffffffu, code_ = 0, unit_ = 0;
};

}  // namespace kvzip
