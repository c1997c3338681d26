// SPDX-License-Identifier: Apache-2.0
// File sizes against the papers' arithmetic, container and all.
#include "tests/contract/reference_drive.hpp"

using namespace kvzip;
using namespace kvzip::test;
namespace ref = kvzip::reference;

namespace {

constexpr std::size_t kLayers = 4, kHeads = 8, kDim = 128;

std::vector<Layer> cache(std::size_t tokens) {
  std::vector<Layer> layers;
  for (std::size_t l = 0; l < kLayers; ++l) {
    layers.push_back({ref::synthetic(tokens, kHeads, kDim, ref::kHalf, 60 + l),
                      ref::synthetic(tokens, kHeads, kDim, ref::kHalf, 80 + l)});
  }
  return layers;
}

double bits_per_value(std::uint64_t bytes, std::size_t tokens) {
  return static_cast<double>(bytes) * 8 / static_cast<double>(2 * kLayers * kHeads * kDim * tokens);
}

/// b + 32 / g bits where quantised, 16 in the window: T mod 128 key tokens, 128 value tokens.
double kivi_bits(double bits, std::size_t tokens) {
  const auto t = static_cast<double>(tokens), exact_keys = static_cast<double>(tokens % 128);
  const double exact = (exact_keys + std::min(t, 128.0)) / (2 * t);
  return (1 - exact) * (bits + 32.0 / 32) + exact * 16;
}

double log2_binomial(double n, double k) {
  return (std::lgamma(n + 1) - std::lgamma(k + 1) - std::lgamma(n - k + 1)) / std::log(2.0);
}

struct Gear {
  double expected, paper;  // paper: 16 bits of value and 16 of index per outlier
};
/// b + 32 / g + 16 r (1 / D + 1 / n), and per outlier a value and its share of the positions.
Gear gear_bits(double bits, double group, bool outliers, std::size_t tokens) {
  const auto n = static_cast<double>(tokens);
  Gear sum{0, 0};
  for (const double vector : {n, static_cast<double>(kHeads * kDim)}) {  // keys, values
    const double scales = 32 / (group == 0 ? vector : group), factors = 16 * 4 * (1.0 / kDim + 1 / n);
    const double k = outliers ? 2 * std::floor(vector * 0.01) : 0;
    const double position = k == 0 ? 0 : log2_binomial(vector, k) / k;
    sum.expected += (bits + scales + factors + k / vector * (16 + position)) / 2;
    sum.paper += (bits + scales + factors + k / vector * (16 + 16)) / 2;
  }
  return sum;
}

}  // namespace

TEST_CASE("sizes: kivi files are within 2 % of the formula, window counted") {
  for (const std::size_t tokens : {2048u, 2000u}) {
    const auto layers = cache(tokens);
    for (const int bits : {2, 4}) {
      const auto file = through_file(fmt::format("kivi-{}", bits), layers, DType::f16, std::nullopt, false);
      const double measured = bits_per_value(file.file_bytes, tokens), expected = kivi_bits(bits, tokens);
      MESSAGE("kivi-", bits, ", ", tokens, " tokens: ", measured, " bits/value, formula ", expected);
      CHECK(std::fabs(measured / expected - 1) < 0.02);
    }
  }
}

TEST_CASE("sizes: gear files are within 2 % of the formula and below the paper's accounting") {
  const std::size_t tokens = 2048;
  const auto layers = cache(tokens);
  struct Case {
    const char* preset;
    double bits, group;
    bool outliers;
  };
  for (const Case& c : {Case{"gear-2", 2, 64, true}, {"gear-4", 4, 0, true}, {"gear-l-2", 2, 64, false}}) {
    const auto file = through_file(c.preset, layers, DType::f16, std::nullopt, false);
    const double measured = bits_per_value(file.file_bytes, tokens);
    const Gear gear = gear_bits(c.bits, c.group, c.outliers, tokens);
    MESSAGE(c.preset, ": ", measured, " bits/value, formula ", gear.expected, ", paper's accounting ", gear.paper);
    CHECK(std::fabs(measured / gear.expected - 1) < 0.02);
    if (c.outliers) CHECK(measured < gear.paper);
  }
}
