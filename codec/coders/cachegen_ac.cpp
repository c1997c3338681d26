// SPDX-License-Identifier: Apache-2.0
#include "codec/coders/cachegen_ac.hpp"

#include <algorithm>
#include <array>

#include "kvzip/error.hpp"

namespace kvzip {
namespace {

constexpr std::uint32_t kHalf = 0x80000000u, kQuarter = 0x40000000u;

/// [low, high] of a symbol, of 65536; the last symbol reaches to the end whatever its table entry says.
struct Interval {
  std::uint64_t low, high;
};
Interval interval(std::span<const std::uint16_t> cdf, std::size_t symbol) {
  return {cdf[symbol], symbol + 2 == cdf.size() ? 65536u : std::uint32_t{cdf[symbol + 1]}};
}

class BigEndianBits {
 public:
  explicit BigEndianBits(Bytes& out) : out_(out) {}
  void put(unsigned bit) {
    cache_ = static_cast<std::uint8_t>(unsigned{cache_} << 1 | bit);
    if (++count_ == 8) flush();
  }
  void put_with_pending(unsigned bit, std::uint32_t& pending) {
    put(bit);
    for (; pending > 0; --pending) put(bit ^ 1);
  }
  void close() {
    while (count_ != 0) put(0);
  }

 private:
  void flush() {
    out_.push_back(static_cast<std::byte>(cache_));
    cache_ = 0;
    count_ = 0;
  }
  Bytes& out_;
  std::uint8_t cache_ = 0;
  unsigned count_ = 0;
};

}  // namespace

std::vector<std::uint16_t> cachegen_cdf(std::span<const std::uint8_t> symbols, unsigned bins) {
  std::vector<std::uint64_t> below(bins + 1);
  for (const std::uint8_t s : symbols) ++below[std::size_t{s} + 1];
  std::vector<std::uint16_t> cdf(bins + 1);
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i <= bins; ++i) {
    sum += below[i];
    const std::uint64_t share = symbols.empty() ? 0 : (65535 - bins) * sum / symbols.size();
    cdf[i] = static_cast<std::uint16_t>(share + i);
  }
  return cdf;
}

void cachegen_encode(std::span<const std::uint8_t> symbols, std::span<const std::uint16_t> cdf, Bytes& out) {
  BigEndianBits bits(out);
  std::uint32_t low = 0, high = 0xffffffffu, pending = 0;
  for (const std::uint8_t symbol : symbols) {
    const Interval part = interval(cdf, symbol);
    const std::uint64_t span = std::uint64_t{high} - low + 1;
    high = static_cast<std::uint32_t>(low + (span * part.high >> 16) - 1);
    low = static_cast<std::uint32_t>(low + (span * part.low >> 16));
    for (;;) {
      if (high < kHalf) {
        bits.put_with_pending(0, pending);
      } else if (low >= kHalf) {
        bits.put_with_pending(1, pending);
      } else if (low >= kQuarter && high < kHalf + kQuarter) {
        ++pending;
        low -= kQuarter;
        high -= kQuarter;
      } else {
        break;
      }
      low <<= 1;
      high = high << 1 | 1;
    }
  }
  ++pending;
  bits.put_with_pending(low < kQuarter ? 0 : 1, pending);
  bits.close();
}

void cachegen_decode(ByteView in, std::span<const std::uint16_t> cdf, std::span<std::uint8_t> symbols) {
  std::size_t at = 0;
  const auto next = [&]() -> std::uint32_t {
    const std::size_t byte = at >> 3;
    const std::uint32_t bit = byte < in.size() ? static_cast<std::uint32_t>(in[byte]) >> (7 - (at & 7)) & 1 : 0;
    ++at;
    return bit;
  };
  std::uint32_t low = 0, high = 0xffffffffu, value = 0;
  for (int i = 0; i < 32; ++i) value = value << 1 | next();
  for (std::uint8_t& symbol : symbols) {
    const std::uint64_t span = std::uint64_t{high} - low + 1;
    const std::uint64_t count = ((std::uint64_t{value} - low + 1) * 65536 - 1) / span;
    // The largest symbol whose entry is not above `count`; the table's last entry belongs to no symbol.
    const auto above = std::upper_bound(cdf.begin(), cdf.end() - 1, count);
    const auto s = static_cast<std::size_t>(above - cdf.begin()) - 1;
    symbol = static_cast<std::uint8_t>(s);
    const Interval part = interval(cdf, s);
    high = static_cast<std::uint32_t>(low + (span * part.high >> 16) - 1);
    low = static_cast<std::uint32_t>(low + (span * part.low >> 16));
    for (;;) {
      if (low >= kQuarter && high < kHalf + kQuarter && !(high < kHalf) && !(low >= kHalf)) {
        low -= kQuarter;
        high -= kQuarter;
        value -= kQuarter;
      } else if (!(high < kHalf) && !(low >= kHalf)) {
        break;
      }
      low <<= 1;
      high = high << 1 | 1;
      value = value << 1 | next();
    }
  }
}

}  // namespace kvzip
