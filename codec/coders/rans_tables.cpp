// SPDX-License-Identifier: Apache-2.0
#include "codec/coders/rans_tables.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <vector>

#include "codec/bits.hpp"
#include "codec/fail.hpp"

namespace kvzip {
namespace {

constexpr std::uint64_t kRootTwo = 724;  // 4 x 2^(1/2) in 1/128
constexpr unsigned kMaxRice = 3;

/// 0, -1, 1, -2, .. as 0, 1, 2, 3, ..
unsigned folded(int difference) {
  return difference < 0 ? static_cast<unsigned>(-2 * difference - 1) : static_cast<unsigned>(2 * difference);
}

}  // namespace

std::uint8_t rans_step(std::uint64_t count) {
  if (count == 0) return 0;
  unsigned step = 2 * static_cast<unsigned>(std::bit_width(count)) - 1;  // of 2^(bit width - 1)
  const auto weight = [](unsigned s) { return rans_weight(static_cast<std::uint8_t>(s)); };
  // Upwards where the next step's value is nearer.
  while (step + 1 < kRansSteps && weight(step + 1) + weight(step) <= 8 * count) ++step;
  return static_cast<std::uint8_t>(step);
}

std::uint64_t rans_weight(std::uint8_t step) {
  if (step == 0) return 1;
  const unsigned half = (step - 1u) / 2;
  return step % 2 == 1 ? std::uint64_t{4} << half : (kRootTwo << half) >> 7;
}

void rans_put_steps(std::span<const std::uint8_t> steps, Bytes& table) {
  std::array<std::size_t, kMaxRice + 1> bits{};
  const auto for_each = [&](auto&& f) {
    int before = 0;
    for (const std::uint8_t step : steps) {
      f(folded(step - before));
      before = step;
    }
  };
  for_each([&](unsigned v) {
    for (unsigned k = 0; k <= kMaxRice; ++k) bits[k] += (v >> k) + 1 + k;
  });
  const auto k = static_cast<unsigned>(std::min_element(bits.begin(), bits.end()) - bits.begin());
  ByteWriter out;
  out.put(static_cast<std::uint8_t>(k));
  BitWriter writer(out);
  for_each([&](unsigned v) {
    for (unsigned ones = v >> k; ones > 0; --ones) writer.put(1, 1);
    writer.put(0, 1);
    writer.put(v & ((1u << k) - 1), k);
  });
  writer.close();
  table = std::move(out.bytes());
}

std::vector<std::uint8_t> rans_get_steps(ByteView table, std::size_t count) {
  ByteReader in(table);
  const auto k = in.get<std::uint8_t>();
  if (k > kMaxRice) fail(ErrorCode::corrupt, "a table with the Rice parameter {}", k);
  BitReader bits(in.take(in.left()));
  std::vector<std::uint8_t> steps;
  int before = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint64_t ones = bits.get_ones();
    if (ones > std::uint64_t{2} * kRansSteps) fail(ErrorCode::corrupt, "a table's step beyond {}", kRansSteps);
    const auto v = static_cast<int>(ones << k | bits.get(k));
    before += v % 2 == 1 ? -(v + 1) / 2 : v / 2;
    if (before < 0 || before >= static_cast<int>(kRansSteps)) fail(ErrorCode::corrupt, "a table's step of {}", before);
    steps.push_back(static_cast<std::uint8_t>(before));
  }
  bits.close();
  return steps;
}

kernels::RansBounds rans_bounds(std::span<const std::uint64_t> weights) {
  const std::size_t symbols = weights.size();
  std::uint64_t sum = 0, below = 0;
  for (const std::uint64_t w : weights) sum += w;
  kernels::RansBounds bounds;
  for (std::size_t i = 0; i < kernels::kRansSymbols; ++i) {
    const std::uint64_t share = i < symbols ? below * (kernels::kRansTotal - symbols) / sum : 0;
    bounds.below[i] = static_cast<std::uint16_t>(i < symbols ? share + i : kernels::kRansTotal - 1);
    if (i < symbols) below += weights[i];
  }
  return bounds;
}

kernels::RansBounds rans_uniform(unsigned symbols) {
  return rans_bounds(std::vector<std::uint64_t>(symbols, 1));
}

void rans_table(std::span<const std::uint8_t> steps, unsigned contexts, unsigned symbols, kernels::RansTable& table,
                kernels::RansBounds& sum) {
  std::vector<std::uint64_t> total(symbols, 0), row(symbols);
  for (unsigned c = 0; c < kernels::kRansSymbols; ++c) {
    for (unsigned i = 0; i < symbols; ++i) {
      row[i] = c < contexts ? rans_weight(steps[c * symbols + i]) : 1;
      if (c < contexts) total[i] += row[i];
    }
    const kernels::RansBounds bounds = rans_bounds(row);
    for (unsigned i = 0; i < kernels::kRansSymbols; ++i) table.below[i][c] = bounds.below[i];
  }
  sum = rans_bounds(total);
}

}  // namespace kvzip
