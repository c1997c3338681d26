// SPDX-License-Identifier: Apache-2.0
// The coded part of a stream of `rans`: the states of the lanes, two little-endian halves each, then their words.
#pragma once

#include <algorithm>
#include <array>
#include <cstring>

#include "codec/buffer.hpp"
#include "codec/fail.hpp"
#include "codec/kernels/rans_lanes.hpp"
#include "kvzip/io.hpp"

namespace kvzip {

using kernels::RansShape;

/// Collects words from the last to the first. Groups are independent, so intervals are needed for one at a time.
class RansWriter {
 public:
  RansWriter(RansShape shape, std::size_t passes)
      : shape_(shape),
        start_(shape.group_slots()),
        size_(shape.group_slots()),
        words_(passes * shape.groups() * shape.group_slots() + 8) {
    std::fill_n(states_.low, kernels::kRansLanes, static_cast<std::uint16_t>(kernels::kRansTotal));
    std::fill_n(states_.high, kernels::kRansLanes, std::uint16_t{0});
  }
  void write(const kernels::RansModel& model, const std::uint8_t* symbols, const std::uint8_t* contexts) {
    for (std::size_t g = shape_.groups(); g-- > 0;) {
      kernels::rans_intervals(model, shape_, g, symbols, contexts, start_.data(), size_.data());
      used_ += kernels::rans_encode(start_.data(), size_.data(), size_.size(), states_,
                                    words_.data() + words_.size() - used_);
    }
  }
  void finish(Bytes& body) const {
    for (std::size_t l = 0; l < kernels::kRansLanes; ++l) {
      for (const unsigned half : {states_.low[l], states_.high[l]}) {
        body.push_back(static_cast<std::byte>(half));
        body.push_back(static_cast<std::byte>(half >> 8));
      }
    }
    const ByteView coded = std::as_bytes(std::span(words_).last(used_));
    body.insert(body.end(), coded.begin(), coded.end());
  }

 private:
  RansShape shape_;
  Buffer<std::uint16_t> start_, size_, words_;
  kernels::RansStates states_;
  std::size_t used_ = 0;
};

/// Runs the decoder to the very end of its words: the last rows read from a copy with room behind it.
class RansReader {
 public:
  explicit RansReader(ByteView coded) {
    constexpr std::size_t kStateBytes = 4 * kernels::kRansLanes;
    if (coded.size() < kStateBytes) fail(ErrorCode::truncated, "the coder's states are missing");
    const ByteView states = coded.first(kStateBytes), words = coded.subspan(kStateBytes);
    for (std::size_t l = 0; l < kernels::kRansLanes; ++l) {
      const auto half = [&](std::size_t i) {
        return static_cast<std::uint16_t>(static_cast<unsigned>(states[i]) | static_cast<unsigned>(states[i + 1]) << 8);
      };
      decoder_.states.low[l] = half(4 * l);
      decoder_.states.high[l] = half(4 * l + 2);
      if (decoder_.states.high[l] >= kernels::kRansTotal ||
          (decoder_.states.high[l] == 0 && decoder_.states.low[l] < kernels::kRansTotal)) {
        fail(ErrorCode::corrupt, "a coder state out of range");
      }
    }
    decoder_.at = reinterpret_cast<const std::uint8_t*>(words.data());
    decoder_.end = decoder_.at + words.size();
  }
  void read(const kernels::RansModel& model, RansShape shape, const std::uint8_t* contexts, std::uint8_t* symbols) {
    decoder_.group = decoder_.row = 0;
    if (kernels::rans_decode(model, shape, contexts, decoder_, symbols)) return;
    if (!in_tail_) {
      const auto left = static_cast<std::size_t>(decoder_.end - decoder_.at);
      std::memcpy(tail_.data(), decoder_.at, left);
      decoder_.at = tail_.data();
      decoder_.end = tail_.data() + left + kernels::kRansRowBytes;
      in_tail_ = true;
      if (kernels::rans_decode(model, shape, contexts, decoder_, symbols)) return;
    }
    fail(ErrorCode::truncated, "the coded symbols end too early");
  }
  void finish() const {
    const std::size_t room = in_tail_ ? kernels::kRansRowBytes : 0;
    if (decoder_.at + room != decoder_.end) fail(ErrorCode::corrupt, "the coded symbols do not end where they should");
    for (std::size_t l = 0; l < kernels::kRansLanes; ++l) {
      if (decoder_.states.low[l] != kernels::kRansTotal || decoder_.states.high[l] != 0) {
        fail(ErrorCode::corrupt, "the coded symbols end in a wrong state");
      }
    }
  }

 private:
  kernels::RansDecoder decoder_;
  std::array<std::uint8_t, 2 * kernels::kRansRowBytes> tail_{};
  bool in_tail_ = false;
};

}  // namespace kvzip
