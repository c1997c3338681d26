// SPDX-License-Identifier: Apache-2.0
// File sizes against the papers' arithmetic, container and all.
#include <fmt/format.h>

#include <array>

#include "tests/contract/reference_drive.hpp"

using namespace kvzip;
using namespace kvzip::test;
namespace ref = kvzip::reference;

namespace {

constexpr std::size_t kLayers = 4, kHeads = 8, kDim = 128;

/// Layers are alike, since nothing is shared between them.
class Cache {
 public:
  explicit Cache(std::size_t tokens) : like_(ref::synthetic(tokens, kHeads, kDim, ref::kHalf, 60)) {
    tensors_[0] = elements_of(head_first(like_), DType::f16);
    tensors_[1] = elements_of(head_first(ref::synthetic(tokens, kHeads, kDim, ref::kHalf, 61)), DType::f16);
  }
  /// Size of the container.
  std::uint64_t through(const std::string& preset) const {
    const ScratchDirectory scratch;
    const auto elements = [&](std::size_t tensor) { return tensors_[tensor % 2]; };
    return write_container(scratch.file("cache.kvz"), preset, dump_like(like_, kLayers, DType::f16), elements);
  }

 private:
  Matrix like_;
  std::array<Bytes, 2> tensors_;
};

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
    const Cache cache(tokens);
    for (const int bits : {2, 4}) {
      const std::uint64_t bytes = cache.through(fmt::format("kivi-{}", bits));
      const double measured = bits_per_value(bytes, tokens), expected = kivi_bits(bits, tokens);
      MESSAGE("kivi-", bits, ", ", tokens, " tokens: ", measured, " bits/value, formula ", expected);
      CHECK(std::fabs(measured / expected - 1) < 0.02);
    }
  }
}

TEST_CASE("sizes: gear files are within 2 % of the formula and below the paper's accounting") {
  const std::size_t tokens = 2048;
  const Cache cache(tokens);
  struct Case {
    std::string preset;
    double bits, group;
    bool outliers;
  };
  for (const Case& c : {Case{"gear-2", 2, 64, true}, {"gear-4", 4, 0, true}, {"gear-l-2", 2, 64, false}}) {
    const double measured = bits_per_value(cache.through(c.preset), tokens);
    const Gear gear = gear_bits(c.bits, c.group, c.outliers, tokens);
    MESSAGE(c.preset, ": ", measured, " bits/value, formula ", gear.expected, ", paper's accounting ", gear.paper);
    CHECK(std::fabs(measured / gear.expected - 1) < 0.02);
    if (c.outliers) CHECK(measured < gear.paper);
  }
}

TEST_CASE("sizes: gear's positions cost less than 16 bits wherever outliers lie") {
  for (const std::size_t tokens : {100u, 1000u, 5000u}) {
    for (const int placement : {0, 1, 2}) {  // spread, all at one end, at both ends
      CAPTURE(tokens);
      CAPTURE(placement);
      Matrix m = ref::synthetic(tokens, 2, 64, ref::kSingle, 90);
      for (std::size_t i = 0; i < m.v.size(); ++i) {
        const std::size_t token = i / m.cols();
        const auto t = static_cast<float>(token), n = static_cast<float>(tokens);
        if (placement == 1) m.v[i] = t > n * 0.9f ? (t - n * 0.95f) * 100 : 0.01f * m.v[i];
        if (placement == 2) m.v[i] += t - n / 2;
      }
      const auto out = through_pipeline(preset_text("gear-2", Role::key), Role::key, m, DType::f32);
      const auto k = 2 * static_cast<std::size_t>(static_cast<double>(tokens) * 0.01);
      const auto bytes = out.sizes.bytes[static_cast<std::size_t>(StreamLabel::positions)];
      CHECK(bytes > 0);
      CHECK(bytes * 8 < 16 * k * m.cols());
      CHECK(out.sizes.bytes[static_cast<std::size_t>(StreamLabel::outliers)] == 4 * k * m.cols());
    }
  }
}
