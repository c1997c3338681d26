// SPDX-License-Identifier: Apache-2.0
// PolarQuant (arXiv 2502.02617): angles by arcus tangent and codebooks by the law of each level, worked out here.
#include <fmt/format.h>

#include <array>

#include "tests/contract/reference_drive.hpp"

using namespace kvzip;
using namespace kvzip::test;
namespace ref = kvzip::reference;

namespace {

/// The four angles of least squared error for a density of sin(2 a)^power on 0 to a quarter turn, by Lloyd's iteration.
std::array<double, 4> best_angles(int power) {
  std::array<double, 4> angles{0.2, 0.6, 1.0, 1.4};
  constexpr int kSteps = 20000;
  for (int loop = 0; loop < 400; ++loop) {
    std::array<double, 4> sum{}, weight{};
    for (int i = 0; i < kSteps; ++i) {
      const double a = (i + 0.5) * M_PI / 2 / kSteps, w = std::pow(std::sin(2 * a), power);
      std::size_t best = 0;
      for (std::size_t k = 1; k < 4; ++k) {
        if (std::fabs(a - angles[k]) < std::fabs(a - angles[best])) best = k;
      }
      sum[best] += w * a;
      weight[best] += w;
    }
    for (std::size_t k = 0; k < 4; ++k) angles[k] = sum[k] / weight[k];
  }
  return angles;
}

struct Books {
  std::array<std::array<double, 4>, 3> higher{best_angles(1), best_angles(3), best_angles(7)};
};

/// Angle of (x, y), quantised at a level from 1.
double quantised(const Books& books, double x, double y, int level) {
  const double a = std::atan2(y, x);
  if (level == 1) return (std::floor((a < 0 ? a + 2 * M_PI : a) / (2 * M_PI) * 16) + 0.5) / 16 * 2 * M_PI;
  const auto& angles = books.higher[static_cast<std::size_t>(level - 2)];
  return *std::min_element(angles.begin(), angles.end(),
                           [&](double p, double q) { return std::fabs(a - p) < std::fabs(a - q); });
}
/// x of 2^level numbers with its angles quantised and its radius as it is.
std::vector<double> polar(const Books& books, const std::vector<double>& x, int level, double radius) {
  if (level == 0) return {radius};
  const std::size_t half = x.size() / 2;
  const std::vector<double> left(x.begin(), x.begin() + static_cast<std::ptrdiff_t>(half)),
      right(x.begin() + static_cast<std::ptrdiff_t>(half), x.end());
  const auto length = [](const std::vector<double>& v) {
    double sum = 0;
    for (const double a : v) sum += a * a;
    return std::sqrt(sum);
  };
  const double a = level == 1 ? quantised(books, x[0], x[1], 1) : quantised(books, length(left), length(right), level);
  std::vector<double> out = polar(books, left, level - 1, radius * std::cos(a));
  const std::vector<double> more = polar(books, right, level - 1, radius * std::sin(a));
  out.insert(out.end(), more.begin(), more.end());
  return out;
}

}  // namespace

TEST_CASE("polar: decoded values are those of quantised angles") {
  const Books books;
  const Matrix m = ref::synthetic(60, 2, 40, ref::kSingle, 61);  // heads end in half a block
  const auto out = through_pipeline("polar:scale=f32,pack", Role::key, m, DType::f32);
  CHECK_FALSE(out.sizes.raw);
  std::size_t far = 0;
  for (std::size_t r = 0; r < m.rows; ++r) {
    for (std::size_t h = 0; h < 2; ++h) {
      for (std::size_t first = 0; first < 40; first += 16) {
        std::vector<double> x(16);
        double square = 0;
        for (std::size_t i = 0; i < std::min<std::size_t>(16, 40 - first); ++i) {
          x[i] = double{m.at(r, h * 40 + first + i)};
          square += x[i] * x[i];
        }
        const double radius = std::sqrt(square);
        const auto expected = polar(books, x, 4, radius);
        for (std::size_t i = 0; i < std::min<std::size_t>(16, 40 - first); ++i) {
          const std::size_t at = r * m.cols() + h * 40 + first + i;
          far += std::fabs(out.values[at] - expected[i]) > 1e-3 * radius;
        }
      }
    }
  }
  CHECK(far <= 32);  // an angle between two codes may fall to either
}

TEST_CASE("polar: more blocks than a frame may have values are refused") {
  Pipeline p = Pipeline::parse("polar,pack");
  TileContext context;
  context.role = Role::key;
  context.layers = 1;
  context.heads = 1u << 29;  // heads of one channel, each a block of 16
  context.head_dim = 1;
  context.source = DType::f16;
  CHECK_THROWS_AS(p.resolve(context, {1, 1u << 29, 0, true, true}), Error);
  context.heads = 1u << 26;
  CHECK_NOTHROW(Pipeline(p).resolve(context, {1, 1u << 26, 0, true, true}));
  CHECK_THROWS_AS(p.resolve(context, {2, 1u << 26, 0, true, true}), Error);
}

TEST_CASE("polarquant: 3.875 bits, and the error of normal variables") {
  Matrix m{256, 4, 128, std::vector<float>(std::size_t{256} * 512)};
  ref::Random random(62);
  for (float& v : m.v) v = ref::saturated(random.normal(), ref::kHalf);
  const auto out = through_pipeline(preset_text("polarquant", Role::key), Role::key, m, DType::f16);
  const double values = static_cast<double>(m.v.size());
  CHECK(std::fabs(static_cast<double>(out.payload) * 8 / values / 3.875 - 1) < 0.02);
  // The same, worked out by quantising angles of other normal variables.
  const Books books;
  double own = 0, expected = 0;
  for (std::size_t i = 0; i < m.v.size(); ++i) own += (out.values[i] - m.v[i]) * (out.values[i] - m.v[i]) / values;
  constexpr int kBlocks = 4000;
  for (int b = 0; b < kBlocks; ++b) {
    std::vector<double> x(16);
    double square = 0;
    for (double& v : x) v = random.normal(), square += v * v;
    const auto y = polar(books, x, 4, std::sqrt(square));
    for (std::size_t i = 0; i < 16; ++i) expected += (y[i] - x[i]) * (y[i] - x[i]) / (16.0 * kBlocks);
  }
  MESSAGE(fmt::format("polarquant: squared error {}, expected {}", own, expected));
  CHECK(std::fabs(own / expected - 1) < 0.03);
}
