// SPDX-License-Identifier: Apache-2.0
// Sizes and errors on independent normal values, where both follow from closed forms, numerical integrals of the normal
// law or simulations in double that share nothing with the codec.
#include <fmt/format.h>

#include <array>
#include <map>

#include "tests/contract/normal_law.hpp"
#include "tests/contract/reference_drive.hpp"

using namespace kvzip;
using namespace kvzip::test;

namespace {

constexpr std::size_t kRows = 4096, kDim = 128;

const Matrix& gaussian() {
  static const Matrix kMatrix = [] {
    const std::vector<double> x = normals(kRows * kDim, 77);
    return Matrix{kRows, 1, kDim, std::vector<float>(x.begin(), x.end())};
  }();
  return kMatrix;
}

struct Point {
  double bits, error;  // per value; root of the squared error over that of the values
};
Point measured(const std::string& text, Role role = Role::key, DType dtype = DType::f32, std::size_t rows = kRows) {
  Matrix m = gaussian();
  m.rows = rows;
  m.v.resize(rows * kDim);
  const auto out = through_pipeline(text, role, m, dtype);
  const auto n = static_cast<double>(m.v.size());
  const double power = squared_error(m.v, std::vector<float>(m.v.size()));
  const Point p{8 * static_cast<double>(out.payload) / n, std::sqrt(squared_error(m.v, out.values) / power)};
  MESSAGE(text, ": ", p.bits, " bits/value, error ", p.error);
  return p;
}
/// Entropy, in bits, and mean squared error of a uniform quantiser of step s around 0 with the cells' means.
Point uniform_quantiser(double s, double round) {
  double entropy = 0, error = 1;
  for (int q = -400; q <= 400; ++q) {
    const double from = q > 0 ? q - round : q == 0 ? round - 1 : q - 1 + round;
    const double to = q > 0 ? q + 1 - round : q == 0 ? 1 - round : q + round;
    const double mass = below(to * s) - below(from * s), moment = density(from * s) - density(to * s);
    if (mass < 1e-300) continue;
    entropy -= mass * std::log2(mass);
    error -= moment * moment / mass;
  }
  return {entropy, std::sqrt(error)};
}

double log2_binomial(double n, double k) {
  return (std::lgamma(n + 1) - std::lgamma(k + 1) - std::lgamma(n - k + 1)) / std::log(2.0);
}

}  // namespace

TEST_CASE("gaussian: turboquant has the distortion of Lloyd-Max quantisers at b + 16 / D bits") {
  for (int bits = 1; bits <= 4; ++bits) {
    const Point p = measured(fmt::format("rotate,codebook:bits={},pack", bits));
    CHECK(close(p.error, std::sqrt(sphere_distortion(bits, kDim)), 0.003));
    CHECK(close(p.error, std::sqrt(max_distortion(bits)), 0.01));  // 128 values of one length are not quite independent
    CHECK(close(p.bits, bits + 16.0 / kDim, 0.001));
    if (bits > 1) {
      const Point preset = measured(preset_text(fmt::format("turboquant-{}", bits), Role::value), Role::value);
      CHECK(preset.bits == p.bits);
      CHECK(preset.error == p.error);
    }
  }
}

TEST_CASE("gaussian: the rotation changes neither size nor error of what is normal already") {
  const Point plain = measured("codebook:bits=3,pack"), rotated = measured("rotate:rounds=3,codebook:bits=3,pack");
  CHECK(close(plain.error, rotated.error, 0.002));
  CHECK(plain.bits == rotated.bits);
}

TEST_CASE("gaussian: minimum and maximum per 64 values") {
  // state of the art, section 6: 200 000 simulated values.
  const std::map<int, double> table{{2, 0.450}, {3, 0.192}, {4, 0.0895}};
  for (const auto& [bits, error] : table) {
    const Point p = measured(fmt::format("quant:bits={}:axis=token-head:group=64,pack", bits));
    CHECK(close(p.error, error, 0.01));
    CHECK(close(p.error, simulated_min_max(64, bits), 0.005));
    CHECK(close(p.bits, bits + 32.0 / 64, 0.001));
  }
  // The ends of a range are met exactly, the others miss by the error of a uniform variable, step^2 / 12.
  const double step = std::sqrt(mean_squared_range(64)) / 15;
  CHECK(close(measured("quant:bits=4:axis=token-head:group=64,pack").error, step * std::sqrt(62.0 / 64 / 12), 0.01));
  const Point window = measured(preset_text("int4-g64", Role::key), Role::key, DType::f16);
  CHECK(close(window.bits, (4.5 * (kRows - 128) + 16.0 * 128) / kRows, 0.001));
}

TEST_CASE("gaussian: kivi's groups of 32, the window exact") {
  for (const int bits : {2, 4}) {
    const std::string name = fmt::format("kivi-{}", bits);
    const double error = simulated_min_max(32, bits);
    // 4096 mod 128 is 0: no key is kept; of the values the last 128 tokens are.
    const Point keys = measured(preset_text(name, Role::key), Role::key, DType::f16);
    CHECK(close(keys.error, error, 0.005));
    CHECK(close(keys.bits, bits + 1, 0.001));
    const double kept = 128.0 / kRows;
    const Point values = measured(preset_text(name, Role::value), Role::value, DType::f16);
    CHECK(close(values.error, error * std::sqrt(1 - kept), 0.005));
    CHECK(close(values.bits, (bits + 1) * (1 - kept) + 16 * kept, 0.001));
  }
  const double step = std::sqrt(mean_squared_range(32)) / 15;
  CHECK(close(simulated_min_max(32, 4), step * std::sqrt(30.0 / 32 / 12), 0.01));
}

TEST_CASE("gaussian: gear-2 is quantisation less outliers less the largest singular values of noise") {
  const double k = std::floor(kRows * 0.01), share = 2 * k / kRows;
  const Point p = measured(preset_text("gear-2", Role::key), Role::key, DType::f16);
  const Point without = measured(preset_text("gear-l-2", Role::key), Role::key, DType::f16);
  double power = 0, noise = 0;
  for (std::size_t c = 0; c < kDim; ++c) {
    std::vector<double> channel;
    for (std::size_t r = 0; r < kRows; ++r) channel.push_back(gaussian().at(r, c));
    noise += gear_noise(channel, static_cast<std::size_t>(k), 2);
  }
  for (const float v : gaussian().v) power += double{v} * v;
  // Three power iterations from a random start take at least the average share.
  const double most = largest_share(4, kRows, kDim), least = 4.0 / kDim;
  CHECK(p.error > std::sqrt(noise / power * (1 - 1.02 * most)));
  CHECK(p.error < std::sqrt(noise / power * (1 - least)));
  CHECK(p.error < without.error);
  const double factors = 16 * 4 * (1.0 / kDim + 1.0 / kRows), position = log2_binomial(kRows, 2 * k) / (2 * k);
  CHECK(close(p.bits, 2 + 32.0 / 64 + factors + share * (16 + position), 0.003));
  CHECK(close(without.bits, 2 + 32.0 / 64 + factors, 0.003));
}

namespace {

/// Entropy per symbol of x / step + 15 rounded, with one step per token, its largest magnitude over 15.
double cachegen_entropy(std::size_t rows) {
  std::map<int, double> counts;
  for (std::size_t r = 0; r < rows; ++r) {
    double most = 0;
    for (std::size_t c = 0; c < kDim; ++c) most = std::max(most, std::fabs(double{gaussian().at(r, c)}));
    for (std::size_t c = 0; c < kDim; ++c) counts[static_cast<int>(std::lround(gaussian().at(r, c) / most * 15))] += 1;
  }
  double bits = 0;
  const auto n = static_cast<double>(rows * kDim);
  for (const auto& [symbol, count] : counts) bits -= count / n * std::log2(count / n);
  return bits;
}

}  // namespace

TEST_CASE("gaussian: cachegen's 31 levels up to the largest magnitude of a token") {
  // One value of 128 is met exactly, the others miss by the error of a uniform variable.
  const double step = std::sqrt(mean_squared_maximum(kDim)) / 15, error = step * std::sqrt(127.0 / 128 / 12);
  const Point paper = measured(preset_text("cachegen-3", Role::key), Role::key, DType::f16);
  CHECK(close(paper.error, error, 0.01));
  // Differences of independent tokens would cost half a bit more: the stage leaves itself out.
  CHECK(close(paper.bits, cachegen_entropy(kRows) + 16.0 / kDim, 0.02));
  CHECK(paper.bits > cachegen_entropy(kRows));
  // As served: 256 tokens, 33 numbers of 16 bits and a length of 32 bits per channel.
  const Point served = measured(preset_text("cachegen-lmcache", Role::key), Role::key, DType::f16, 256);
  const double tables = (33.0 * 16 + 32) / 256;
  CHECK(close(served.error, error, 0.02));
  CHECK(served.bits > tables + 16.0 / kDim + 3);
  CHECK(close(served.bits, cachegen_entropy(256) + tables + 16.0 / kDim, 0.03));
}

TEST_CASE("gaussian: one absolute step with entropy coding reaches the entropy-constrained quantiser") {
  // step, and rate and error of the table (state of the art, section 6).
  struct Row {
    double step, bits, error;
  };
  const std::array<Row, 5> table{
      {{0.25, 4.05, 0.072}, {0.5, 3.06, 0.143}, {1, 2.11, 0.277}, {1.5, 1.59, 0.397}, {2.42, 1.005, 0.592}}};
  for (const Row& row : table) {
    const Point ideal = uniform_quantiser(row.step, 0.5);
    CHECK(close(ideal.bits, row.bits, 0.02));
    CHECK(close(ideal.error, row.error, 0.01));
    for (const std::string_view coder : {"rans", "ac"}) {
      const Point p = measured(fmt::format("uniform:step={}:points=centroid,{}", row.step, coder));
      // ac learns each channel's distribution for itself, of up to 36 symbols here from 4096 tokens.
      CHECK(close(p.bits, ideal.bits, coder == "rans" ? 0.015 : 0.035));
      CHECK(p.bits > ideal.bits * 0.997);
      CHECK(close(p.error, ideal.error, 0.005));
    }
    // Without centroids, the error of the rounding alone.
    const double q = row.step;
    const double plain = integral(-8, 8, [&](double x) {
      const double e = x - std::nearbyint(x / q) * q;
      return e * e * density(x);
    });
    CHECK(close(measured(fmt::format("uniform:step={},rans", row.step)).error, std::sqrt(plain), 0.005));
  }
}

TEST_CASE("gaussian: a dead zone has the rate and error of its cells") {
  for (const double round : {0.4, 0.25, 0.0}) {
    const Point ideal = uniform_quantiser(1.25, round);
    const Point p = measured(fmt::format("uniform:step=1.25:round={}:points=centroid,rans", round));
    CHECK(close(p.bits, ideal.bits, 0.015));
    CHECK(close(p.error, ideal.error, 0.01));
  }
}
