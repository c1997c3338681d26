// SPDX-License-Identifier: Apache-2.0
// Symbols go channel by channel, tokens in order. A model holds cumulative counts c[i] = P(symbol < i) in 15 bits;
// after a symbol s every boundary moves towards i (i <= s) or 2^15 - (N - i) (i > s) by a power-of-two fraction, which
// keeps all counts at least 1. Two models are averaged: one of the channel, started from what earlier channels taught,
// and one chosen by the previous token's symbol, shared by the head. (Adaptive cumulative models: the form is that of
// AV1's and of Fabian Giesen's rANS experiments.)
#include "codec/coders/adaptive.hpp"

#include <algorithm>
#include <array>

#include "codec/coders/range_coder.hpp"
#include "codec/fail.hpp"

namespace kvzip {
namespace {

/// All numbers are below 2^15, so that 16-bit lanes hold them and their differences.
template <int N>
struct alignas(32) Model {
  std::array<std::int16_t, N> c;

  explicit Model(std::uint32_t alphabet = N) {
    for (std::uint32_t i = 0; i < N; ++i) {
      c[i] = static_cast<std::int16_t>(i < alphabet ? i * (kFrequencyTotal - (N - alphabet)) / alphabet
                                                    : kFrequencyTotal - (N - i));
    }
  }
  void learn(int symbol, unsigned shift) { approach(kTargets[static_cast<std::size_t>(symbol)].data(), shift); }
  /// Moves an eighth of the way to another model.
  void follow(const Model& other) { approach(other.c.data(), 3); }

 private:
  using Row = std::array<std::int16_t, N>;
  // By pointers, here and in Decode: under the sanitizers a call for each element took most of the time of all tests.
  void approach(const std::int16_t* target, unsigned shift) {
    std::int16_t* own = c.data();
    for (int i = 0; i < N; ++i) {
      const auto difference = static_cast<std::int16_t>(target[i] - own[i]);
      own[i] = static_cast<std::int16_t>(own[i] + static_cast<std::int16_t>(difference >> shift));
    }
  }
  static constexpr std::array<Row, N> kTargets = [] {
    std::array<Row, N> rows{};
    for (std::size_t s = 0; s < N; ++s) {
      for (std::size_t i = 0; i < N; ++i) {
        rows[s][i] = static_cast<std::int16_t>(i <= s ? i : kFrequencyTotal - (N - i));
      }
    }
    return rows;
  }();
};

/// Shift of the n-th update of a channel's model: fast first, 1/64 from the 96th on.
unsigned channel_shift(std::size_t n) {
  return n < 2 ? 3 : n < 24 ? 4 : n < 96 ? 5 : 6;
}
constexpr unsigned kSharedShift = 6;

/// The two directions of one symbol under the average of two models.
struct Encode {
  RangeEncoder coder;
  explicit Encode(Bytes& out) : coder(out) {}
  template <int N>
  int symbol(const Model<N>& a, const Model<N>& b, int value) {
    const auto bound = [&](int i) -> std::uint32_t {
      if (i == N) return kFrequencyTotal;
      const auto at = static_cast<std::size_t>(i);
      return static_cast<std::uint32_t>(a.c[at] + b.c[at]) >> 1;
    };
    coder.encode(bound(value), bound(value + 1) - bound(value));
    return value;
  }
};
struct Decode {
  RangeDecoder coder;
  explicit Decode(ByteView in) : coder(in) {}
  template <int N>
  int symbol(const Model<N>& a, const Model<N>& b, int) {
    const auto value = static_cast<std::int16_t>(coder.peek());
    alignas(32) std::array<std::int16_t, N> bound;
    std::int16_t found = -1;
    const std::int16_t *first = a.c.data(), *second = b.c.data();
    std::int16_t* middle = bound.data();
    for (int i = 0; i < N; ++i) {
      middle[i] = static_cast<std::int16_t>(static_cast<std::uint16_t>(first[i] + second[i]) >> 1);
      found = static_cast<std::int16_t>(found + (middle[i] <= value));
    }
    const auto at = static_cast<std::size_t>(found);
    const std::uint32_t start = static_cast<std::uint32_t>(bound[at]);
    const std::uint32_t end = found + 1 == N ? kFrequencyTotal : static_cast<std::uint32_t>(bound[at + 1]);
    coder.consume(start, end - start);
    return found;
  }
};

/// Codes all symbols of a matrix whose alphabet is at most N.
template <int N, typename Side>
void code_small(Side& side, Stream& s, Context context) {
  const std::size_t rows = s.rows, cols = s.cols;
  const auto alphabet = static_cast<std::uint32_t>(std::max<std::uint64_t>(s.alphabet, 1));
  const Model<N> fresh(alphabet);
  Model<N> prior = fresh;
  std::vector<Model<N>> shared(alphabet, fresh);
  for (std::size_t c = 0; c < cols; ++c) {
    if (s.head_dim != 0 && c % s.head_dim == 0) std::fill(shared.begin(), shared.end(), fresh);
    Model<N> channel = prior;
    int previous = static_cast<int>(alphabet / 2);
    for (std::size_t t = 0; t < rows; ++t) {
      std::uint8_t& at = s.data[t * cols + c];
      Model<N>& other = shared[static_cast<std::size_t>(previous)];
      const Model<N>& a = context == Context::previous ? other : channel;
      const Model<N>& b = context == Context::channel ? channel : other;
      const int symbol = side.symbol(a, b, at);
      if (symbol >= static_cast<int>(alphabet)) fail(ErrorCode::corrupt, "symbol {} of {}", symbol, alphabet);
      at = static_cast<std::uint8_t>(symbol);
      channel.learn(symbol, channel_shift(t));
      other.learn(symbol, kSharedShift);
      previous = symbol;
    }
    prior.follow(channel);
  }
}

/// Larger alphabets: the high nibble as above, the low one given the high one and, for 6 bits and less, nothing else.
template <typename Side>
void code_large(Side& side, Stream& s, Context context) {
  const std::size_t rows = s.rows, cols = s.cols;
  const auto alphabet = static_cast<std::uint32_t>(s.alphabet);
  const Model<16> fresh_high((alphabet + 15) / 16), fresh_low;
  Model<16> prior = fresh_high;
  std::vector<Model<16>> shared(16, fresh_high), low(16, fresh_low), low_channel(16, fresh_low);
  for (std::size_t c = 0; c < cols; ++c) {
    if (s.head_dim != 0 && c % s.head_dim == 0) std::fill(shared.begin(), shared.end(), fresh_high);
    Model<16> channel = prior;
    low_channel = low;
    int previous = static_cast<int>(alphabet / 32);
    for (std::size_t t = 0; t < rows; ++t) {
      std::uint8_t& at = s.data[t * cols + c];
      Model<16>& other = shared[static_cast<std::size_t>(previous)];
      const Model<16>& a = context == Context::previous ? other : channel;
      const Model<16>& b = context == Context::channel ? channel : other;
      const int high = side.symbol(a, b, at >> 4);
      auto& shared_low = low[static_cast<std::size_t>(high)];
      auto& own_low = low_channel[static_cast<std::size_t>(high)];
      const int value = high * 16 + side.symbol(own_low, shared_low, at & 15);
      if (value >= static_cast<int>(alphabet)) fail(ErrorCode::corrupt, "symbol {} of {}", value, alphabet);
      at = static_cast<std::uint8_t>(value);
      channel.learn(high, channel_shift(t));
      other.learn(high, kSharedShift);
      own_low.learn(value & 15, 4);
      shared_low.learn(value & 15, 7);
      previous = high;
    }
    prior.follow(channel);
  }
}

template <typename Side>
void code(Side& side, Stream& s, Context context) {
  if (s.alphabet <= 16) return code_small<16>(side, s, context);
  if (s.alphabet <= 32) return code_small<32>(side, s, context);
  code_large(side, s, context);
}

/// One mask bit with a 15-bit probability of being set.
std::uint32_t clamp_probability(std::uint32_t p) {
  return std::clamp(p, 16u, kFrequencyTotal - 16u);
}

}  // namespace

void adaptive_encode(const Stream& symbols, Context context, Bytes& body) {
  Stream work = symbols;
  Encode side(body);
  code(side, work, context);
  side.coder.finish();
}

void adaptive_decode(Stream& symbols, Context context, ByteView body) {
  symbols.data.assign(symbols.count(), 0);
  Decode side(body);
  code(side, symbols, context);
  side.coder.finish();
}

void adaptive_encode_positions(const Stream& s, Bytes& body) {
  RangeEncoder coder(body);
  const auto start =
      static_cast<std::uint32_t>(std::uint64_t{s.cols} * kFrequencyTotal / std::max<std::uint64_t>(s.alphabet, 1));
  std::vector<std::uint16_t> chance(s.alphabet, static_cast<std::uint16_t>(clamp_probability(start)));
  for (std::size_t r = 0; r < s.rows; ++r) {
    std::size_t next = 0;
    for (std::size_t i = 0; i < s.alphabet && next < s.cols; ++i) {
      const bool set = s.positions[r * s.cols + next] == i;
      const std::uint32_t p = clamp_probability(chance[i]);
      coder.encode(set ? 0 : p, set ? p : kFrequencyTotal - p);
      chance[i] = static_cast<std::uint16_t>(set ? p + ((kFrequencyTotal - p) >> 5) : p - (p >> 5));
      next += set;
    }
  }
  coder.finish();
}

void adaptive_decode_positions(Stream& s, ByteView body) {
  RangeDecoder coder(body);
  const auto start =
      static_cast<std::uint32_t>(std::uint64_t{s.cols} * kFrequencyTotal / std::max<std::uint64_t>(s.alphabet, 1));
  std::vector<std::uint16_t> chance(s.alphabet, static_cast<std::uint16_t>(clamp_probability(start)));
  s.positions.assign(s.count(), 0);
  for (std::size_t r = 0; r < s.rows; ++r) {
    std::size_t next = 0;
    for (std::size_t i = 0; i < s.alphabet && next < s.cols; ++i) {
      const std::uint32_t p = clamp_probability(chance[i]);
      const bool set = coder.peek() < p;
      coder.consume(set ? 0 : p, set ? p : kFrequencyTotal - p);
      chance[i] = static_cast<std::uint16_t>(set ? p + ((kFrequencyTotal - p) >> 5) : p - (p >> 5));
      if (set) s.positions[r * s.cols + next++] = static_cast<std::uint32_t>(i);
    }
    if (next != s.cols) fail(ErrorCode::corrupt, "a list has {} positions instead of {}", next, s.cols);
  }
  coder.finish();
}

}  // namespace kvzip
