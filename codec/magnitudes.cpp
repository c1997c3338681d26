// SPDX-License-Identifier: Apache-2.0
#include "codec/magnitudes.hpp"

#include <algorithm>
#include <cstring>
#include <span>

#include "codec/bits.hpp"
#include "codec/kernels/magnitude_words.hpp"

namespace kvzip {
namespace {

using kernels::kJoined;
constexpr std::size_t kWords = 64;  // at once

/// Bits, least significant first, through a 64-bit buffer, to room that was made for all of them.
class WordWriter {
 public:
  explicit WordWriter(std::uint8_t* at) : at_(at) {}
  /// At most 60 bits; above them there are none.
  void put(std::uint64_t word, std::uint64_t count) {
    buffer_ |= word << filled_;
    filled_ += count;
    if (filled_ < 64) return;
    std::memcpy(at_, &buffer_, sizeof buffer_);
    at_ += sizeof buffer_;
    filled_ -= 64;
    buffer_ = word >> (count - filled_);
  }
  /// Writes the last bits, zero-padded to a byte. Returns where they end.
  std::uint8_t* close() {
    std::memcpy(at_, &buffer_, sizeof buffer_);
    return at_ + (filled_ + 7) / 8;
  }

 private:
  std::uint8_t* at_;
  std::uint64_t buffer_ = 0, filled_ = 0;
};

/// 60 bits from bit `at` on, and more. Nine bytes from its byte on are there.
std::uint64_t word_at(const std::uint8_t* data, std::size_t at) {
  std::uint64_t word;
  std::memcpy(&word, data + at / 8, sizeof word);
  return word >> at % 8 | std::uint64_t{data[at / 8 + 8]} << 1 << (63 - at % 8);
}

void write_values(const Buffer<std::int16_t>& values, Stream& classes, Stream& bits) {
  constexpr std::size_t kMostBits = 15;
  const std::size_t n = values.size(), whole = n / kJoined;
  classes.allocate();
  bits.data.resize((n + kJoined) * kMostBits / 8 + sizeof(std::uint64_t) + 1);
  WordWriter writer(bits.data.data());
  std::uint64_t word[kWords], count[kWords];
  for (std::size_t i = 0; i < whole; i += kWords) {
    const std::size_t some = std::min(kWords, whole - i), at = i * kJoined;
    kernels::magnitude_classes(values.data() + at, some, classes.data.data() + at, word, count);
    for (std::size_t w = 0; w < some; ++w) writer.put(word[w], count[w]);
  }
  std::int16_t last[kJoined] = {};  // zeros behind the end have no bits
  std::uint8_t of_last[kJoined];
  std::copy(values.begin() + static_cast<std::ptrdiff_t>(whole * kJoined), values.end(), last);
  kernels::magnitude_classes(last, 1, of_last, word, count);
  std::copy_n(of_last, n - whole * kJoined, classes.data.data() + whole * kJoined);
  writer.put(word[0], count[0]);
  bits.data.resize(static_cast<std::size_t>(writer.close() - bits.data.data()));
  bits.cols = static_cast<std::uint32_t>(bits.data.size());
}

std::int16_t value_of(std::uint8_t c, std::uint32_t bits) {
  const auto magnitude = static_cast<int>(kClassBase[c] + (bits >> 1)), sign = -static_cast<int>(bits & 1);
  return static_cast<std::int16_t>((magnitude ^ sign) - sign);
}

void read_values(const Stream& classes, const Stream& bits, Buffer<std::int16_t>& values) {
  constexpr std::size_t kMostBytes = kWords * 60 / 8 + sizeof(std::uint64_t) + 1;
  const std::uint8_t *of = classes.data.data(), *data = bits.data.data();
  values.resize(classes.data.size());
  std::size_t i = 0, at = 0;
  std::uint64_t word[kWords];
  std::uint32_t count[kWords];
  // As long as the bits of so many cannot end.
  while (i + kWords * kJoined <= values.size() && at / 8 + kMostBytes <= bits.data.size()) {
    kernels::magnitude_counts(of + i, kWords, count);
    for (std::size_t w = 0; w < kWords; ++w) {
      word[w] = word_at(data, at);
      at += count[w];
    }
    kernels::magnitude_values(of + i, word, kWords, values.data() + i);
    i += kWords * kJoined;
  }
  BitReader reader(std::as_bytes(std::span(bits.data)).subspan(at / 8));
  reader.get(at % 8);
  for (; i < values.size(); ++i) values[i] = value_of(of[i], reader.get(kStoredBits[of[i]]));
  reader.close();
}

}  // namespace

void pass_magnitudes(StreamPort& port, std::uint32_t rows, std::uint32_t cols, const RowGains& gains,
                     Buffer<std::int16_t>& values) {
  Stream classes = symbol_stream(StreamLabel::codes, rows, cols, kMagnitudeClasses);
  classes.magnitudes = true;
  classes.gains = gains;
  Stream bits = byte_stream(StreamLabel::codes);
  if (port.writes()) write_values(values, classes, bits);
  port.pass(classes);
  port.pass(bits);
  if (!port.writes()) read_values(classes, bits, values);
}

}  // namespace kvzip
