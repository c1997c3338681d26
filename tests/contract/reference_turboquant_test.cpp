// SPDX-License-Identifier: Apache-2.0
// The random rotation and the Lloyd-Max codebook of TurboQuant (arXiv 2504.19874) against their definitions: the
// rotation as a matrix in double built from kvz(5), the levels against Max 1960 and the two conditions of an optimal
// quantiser.
#include <fmt/format.h>

#include <array>
#include <bit>

#include "codec/kernels/codewords.hpp"
#include "codec/kernels/hadamard.hpp"
#include "codec/stages/lloyd_max.hpp"
#include "codec/stages/stages.hpp"
#include "tests/contract/every_instruction_set.hpp"

using namespace kvzip;
using namespace kvzip::test;
namespace ref = kvzip::reference;

namespace {

using Vector = std::vector<double>;

double density(double x) {
  return std::exp(-x * x / 2) / std::sqrt(2 * M_PI);
}
double below(double x) {
  return 0.5 * std::erfc(-x / std::sqrt(2.0));
}

/// Element (i, j) of the orthonormal Hadamard matrix in natural order (Sylvester): the sign is the parity of i and j.
double hadamard_element(std::size_t i, std::size_t j, std::size_t n) {
  return (std::popcount(i & j) % 2 == 0 ? 1 : -1) / std::sqrt(static_cast<double>(n));
}

/// The transform of n values from `first` on.
void transform(Vector& v, std::size_t first, std::size_t n) {
  Vector out(n);
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j < n; ++j) out[i] += hadamard_element(i, j, n) * v[first + j];
  }
  std::copy(out.begin(), out.end(), v.begin() + static_cast<std::ptrdiff_t>(first));
}

/// Signs of kvz(5): a bit each of the numbers of splitmix64.
std::vector<Vector> signs(std::size_t rounds, std::size_t dim, std::uint64_t seed) {
  std::vector<Vector> out(rounds, Vector(dim));
  for (Vector& round : out) {
    for (std::size_t c = 0; c < dim; c += 64) {
      seed += 0x9e3779b97f4a7c15u;
      std::uint64_t z = seed;
      z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
      z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
      z ^= z >> 31;
      for (std::size_t i = c; i < std::min(dim, c + 64); ++i) round[i] = (z >> (i - c) & 1) == 1 ? -1 : 1;
    }
  }
  return out;
}

Vector rotated(Vector v, std::size_t rounds, std::uint64_t seed) {
  std::size_t n = 1;
  while (2 * n <= v.size()) n *= 2;
  for (const Vector& sign : signs(rounds, v.size(), seed)) {
    for (std::size_t i = 0; i < v.size(); ++i) v[i] *= sign[i];
    transform(v, 0, n);
    if (n < v.size()) transform(v, v.size() - n, n);
  }
  return v;
}

std::unique_ptr<Stage> rotation(std::size_t rounds, std::uint64_t seed) {
  auto stage = make_rotate();
  const std::string a = fmt::format("rounds={}", rounds), b = fmt::format("seed={}", seed);
  const std::array<std::string_view, 2> items{a, b};
  parse_fields(*stage, "rotate", items);
  return stage;
}

struct NoStreams final : StreamReader {
  void get(Stream&) override { FAIL("rotate stores no streams"); }
};

Matrix normal_matrix(std::size_t rows, std::size_t heads, std::size_t dim, std::uint64_t seed) {
  return {rows, heads, dim, normal(rows * heads * dim, seed)};
}

}  // namespace

TEST_CASE("rotate: rounds of signs and Hadamard matrices, every dimension, and back") {
  for (const std::size_t dim : {1u, 2u, 3u, 5u, 8u, 64u, 80u, 96u, 100u, 128u, 192u, 256u}) {
    for (const std::size_t rounds : {1u, 2u, 4u}) {
      CAPTURE(dim);
      CAPTURE(rounds);
      const std::uint64_t seed = rounds == 4 ? ~std::uint64_t{0} - 3 : dim + rounds;
      const Matrix m = normal_matrix(5, 2, dim, dim);
      const TileContext context = context_of(m, Role::value, DType::f32);
      const auto stage = rotation(rounds, seed);
      Tile tile(context, shape_of(m));
      tile.values.assign(m.v.begin(), m.v.end());
      std::vector<Stream> none;
      StreamWriter writer(none);
      EncodeContext to{writer};
      stage->encode(tile, to);
      CHECK(none.empty());
      CHECK_FALSE(tile.shape.pristine);
      double worst = 0;
      for (std::size_t v = 0; v < m.v.size(); v += dim) {
        const auto* x = m.v.data() + v;
        const Vector expected = rotated(Vector(x, x + dim), rounds, seed);
        double length = 0, turned = 0;
        for (std::size_t i = 0; i < dim; ++i) {
          length += double{x[i]} * x[i];
          turned += expected[i] * expected[i];
          worst = std::max(worst, std::fabs(double{tile.values[v + i]} - expected[i]));
        }
        CHECK(turned == doctest::Approx(length).epsilon(1e-12));  // a rotation
      }
      CHECK(worst < 4e-6);  // values up to 6, some 8 sums in float a round
      NoStreams streams;
      DecodeContext from{streams};
      stage->decode(tile, shape_of(m), from);
      double back = 0;
      for (std::size_t i = 0; i < m.v.size(); ++i) back = std::max(back, std::fabs(double{tile.values[i]} - m.v[i]));
      CHECK(back < 6e-6);
    }
  }
}

TEST_CASE("rotate: a single large channel is spread evenly, and so is a row of the transform") {
  const std::size_t dim = 128;
  for (const bool row : {false, true}) {
    Matrix m{1, 1, dim, std::vector<float>(dim)};
    for (std::size_t i = 0; i < dim; ++i) m.v[i] = row ? static_cast<float>(hadamard_element(i, 37, dim)) : 0.0f;
    if (!row) m.v[37] = 1;
    const TileContext context = context_of(m, Role::key, DType::f32);
    const auto stage = rotation(2, 0);
    Tile tile(context, shape_of(m));
    tile.values.assign(m.v.begin(), m.v.end());
    std::vector<Stream> none;
    StreamWriter writer(none);
    EncodeContext to{writer};
    stage->encode(tile, to);
    float most = 0;
    for (const float v : tile.values) most = std::max(most, std::fabs(v));
    // The largest of 128 normal numbers of variance 1 / 128 is below 4.5 standard deviations, but for 1 case in 1000.
    CHECK(most < 4.5 / std::sqrt(128.0));
  }
}

TEST_CASE("rotate: the decoder's arithmetic as kvz(5) states it, bit for bit, on every instruction set") {
  for (const std::size_t n : {1u, 2u, 4u, 8u, 16u, 32u, 64u, 128u, 512u}) {
    CAPTURE(n);
    const std::vector<float> start = normal(n, n);
    std::vector<float> v = start;
    int k = 0;
    while ((std::size_t{1} << k) < n) ++k;
    const float f = k % 2 == 0 ? std::ldexp(1.0f, -k / 2) : std::ldexp(0x1.6a09e6p-1f, -(k - 1) / 2);
    for (float& x : v) x *= f;
    for (std::size_t h = 1; h < n; h *= 2) {
      for (std::size_t i = 0; i < n; ++i) {
        if ((i & h) != 0) continue;
        const float a = v[i], b = v[i + h];
        v[i] = a + b;
        v[i + h] = a - b;
      }
    }
    const auto got = on_every_instruction_set([&] {
      std::vector<float> x = start;
      kernels::hadamard(n, f, x.data());
      return x;
    });
    CHECK(std::memcmp(got.data(), v.data(), n * sizeof(float)) == 0);
  }
  const Matrix m = normal_matrix(40, 3, 96, 3);
  const auto bits = on_every_instruction_set([&] {
    return through_pipeline("rotate:rounds=3:seed=5,codebook:bits=3,pack", Role::key, m, DType::f32).elements;
  });
  CHECK(bits.size() == m.v.size() * 4);
}

TEST_CASE("codebook: the levels are those that Max published, and they meet both conditions") {
  const std::array<Vector, 5> max{{{0.7980},
                                   {0.4528, 1.510},
                                   {0.2451, 0.7560, 1.344, 2.152},
                                   {0.1284, 0.3881, 0.6568, 0.9424, 1.256, 1.618, 2.069, 2.733},
                                   {0.06590, 0.1981, 0.3314, 0.4668, 0.6050, 0.7473, 0.8947, 1.049, 1.212, 1.387, 1.577,
                                    1.788, 2.029, 2.319, 2.692, 3.263}}};
  const Vector distortion{0.3634, 0.1175, 0.03454, 0.009497, 0.002499};
  for (unsigned bits = 1; bits <= kMostCodebookBits; ++bits) {
    CAPTURE(bits);
    const std::vector<float> levels = lloyd_max_levels(bits);
    const std::size_t n = levels.size();
    REQUIRE(n == std::size_t{1} << bits);
    double error = 1;
    for (std::size_t i = 0; i < n; ++i) {
      CAPTURE(i);
      CHECK(levels[i] == -levels[n - 1 - i]);
      if (i >= n / 2) CHECK(std::fabs(levels[i] / max[bits - 1][i - n / 2] - 1) < 1.2e-3);
      const double from = i == 0 ? -40 : (double{levels[i - 1]} + levels[i]) / 2;
      const double to = i + 1 == n ? 40 : (double{levels[i]} + levels[i + 1]) / 2;
      const double mass = below(to) - below(from), mean = (density(from) - density(to)) / mass;
      // A level is the mean of its cell: a change of 1e-7 in the cell's ends moves the mean by less than that.
      CHECK(std::fabs(levels[i] - mean) < 3e-7);
      error -= mass * mean * mean;
    }
    // Max's own errors: he printed 0.009497 and 0.002499 where the optimum is 0.009501 and 0.002505.
    CHECK(std::fabs(error / distortion[bits - 1] - 1) < 2.5e-3);
  }
}

TEST_CASE("codebook: a length in half precision and the nearest level of every coordinate") {
  for (unsigned bits = 1; bits <= kMostCodebookBits; ++bits) {
    for (const std::size_t dim : {1u, 7u, 128u}) {
      CAPTURE(bits);
      CAPTURE(dim);
      Matrix m = ref::synthetic(60, 2, dim, ref::kSingle, bits + dim);
      std::fill_n(m.v.begin() + static_cast<std::ptrdiff_t>(3 * dim), dim, 0.0f);  // a vector of zeros
      const auto out = through_pipeline(fmt::format("codebook:bits={},pack", bits), Role::value, m, DType::f32);
      if (dim > 1) CHECK_FALSE(out.sizes.raw);
      if (out.sizes.raw) continue;
      std::vector<float> lengths;
      for (std::size_t v = 0; v < m.v.size(); v += dim) {
        double sum = 0;
        for (std::size_t i = v; i < v + dim; ++i) sum += double{m.v[i]} * m.v[i];
        lengths.push_back(static_cast<float>(std::sqrt(sum)));
      }
      ref::store_halves(lengths);
      const std::vector<float> levels = lloyd_max_levels(bits);
      std::size_t foreign = 0, farther = 0;
      for (std::size_t i = 0; i < m.v.size(); ++i) {
        const auto unit = static_cast<float>(double{lengths[i / dim]} / std::sqrt(static_cast<double>(dim)));
        double best = HUGE_VAL;
        bool known = false;
        for (const float level : levels) {
          const float value = level * unit;
          known = known || out.values[i] == value;
          best = std::min(best, std::fabs(double{m.v[i]} - value));
        }
        foreign += !known;
        farther += std::fabs(double{m.v[i]} - out.values[i]) > best + 1e-6 * unit;
      }
      CHECK(foreign == 0);
      CHECK(farther == 0);
      for (std::size_t i = 3 * dim; i < 4 * dim; ++i) CHECK(out.values[i] == 0);
    }
  }
}

TEST_CASE("codebook: kernels at every length, on every instruction set, as a plain loop") {
  const std::vector<float> levels = lloyd_max_levels(5);
  std::vector<float> bounds;
  for (std::size_t i = 1; i < levels.size(); ++i) bounds.push_back((levels[i - 1] + levels[i]) / 2);
  for (std::size_t n = 0; n <= 70; ++n) {
    std::vector<float> x = normal(n, n + 1);
    for (std::size_t i = 0; i < n; i += 3) x[i] = bounds[i % bounds.size()];  // on a bound: the lower entry
    std::vector<std::uint8_t> expected;
    std::vector<float> sums = x;
    for (std::size_t i = 0; i < n; ++i) {
      expected.push_back(
          static_cast<std::uint8_t>(std::count_if(bounds.begin(), bounds.end(), [&](float b) { return b < x[i]; })));
      sums[i] += levels[expected[i]];
    }
    const auto codes = on_every_instruction_set([&] {
      std::vector<std::uint8_t> out(n);
      kernels::nearest_entries(x.data(), n, bounds.data(), bounds.size(), out.data());
      return out;
    });
    CHECK(codes == expected);
    const auto values = on_every_instruction_set([&] {
      std::vector<float> out = x;
      kernels::entry_values_add(codes.data(), n, levels.data(), out.data());
      return out;
    });
    CHECK(values == sums);
  }
}
