// SPDX-License-Identifier: Apache-2.0
// KVTC's bit allocation (arXiv 2511.01815): components in descending variance are cut into contiguous
// groups, each quantised to 0, 2, 4 or 8 bits with one scale and one shift per token.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace kvzip {

inline constexpr std::array<std::uint32_t, 5> kKltSizes{1, 16, 64, 256, 1024};  // wire: by index
inline constexpr std::array<unsigned, 3> kKltBits{2, 4, 8};                     // wire: by index + 1
inline constexpr unsigned kKltSideBits =
    32;  // what a group costs each token beside its codes: 16 of scale, 16 of shift

/// A coded group; components in no group have 0 bits.
struct KltGroup {
  std::uint32_t first = 0, size = 0;
  unsigned bits = 0;
  bool operator==(const KltGroup&) const = default;
};

/// One size and one width of codes.
struct KltChoice {
  std::uint32_t size = 0;
  unsigned bits = 0;
  std::vector<double> error;  // squared error of the group that begins at each component
  std::uint64_t cost() const { return std::uint64_t{size} * bits + kKltSideBits; }
};
struct KltErrors {
  std::vector<double> left_out;  // squared error of each component without bits: its energy
  std::vector<KltChoice> choices;
};

/// Minimum and step of uniform codes, rounded to half precision's digits (any exponent), and a value's code.
struct KltRange {
  float scale = 0, shift = 0;
};
KltRange klt_range(float low, float high, unsigned bits);
inline float klt_code(float x, KltRange range, unsigned bits) {
  constexpr float kRound = 0x1.8p23f;  // its unit is 1: adding it rounds to nearest, ties to even
  const float top = static_cast<float>((1u << bits) - 1);
  const float q = range.scale == 0 ? 0.0f : (x - range.shift) / range.scale;
  const float inside = q < 0 ? 0.0f : q > top ? top : q;
  return (inside + kRound) - kRound;
}

/// Quantises rows x components numbers (row-major) in every way. Of many rows a part, evenly spread, stands for all.
KltErrors measure_klt_errors(const float* d, std::size_t rows, std::size_t components);

/// The groups of least error among those that cost a token at most `budget` bits: the dynamic programme over
/// (components, bits) whose transition appends one group. Exact while components x budget is below 2^24; beyond that
/// costs are rounded up to more than a bit pair.
std::vector<KltGroup> allocate_klt_bits(const KltErrors& errors, std::uint64_t budget);

}  // namespace kvzip
