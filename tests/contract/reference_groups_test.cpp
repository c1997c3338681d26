// SPDX-License-Identifier: Apache-2.0
// SKVQ (arXiv 2405.06219) and Coupled Quantization (arXiv 2405.03917) against their formulas.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "tests/contract/reference_drive.hpp"

using namespace kvzip;
using namespace kvzip::test;
namespace ref = kvzip::reference;

namespace {

std::vector<float> through(const std::string& text, const Matrix& m, const std::vector<float>& saliency = {}) {
  Pipeline p = Pipeline::parse(text);
  const TileContext context = context_of(m, Role::key, DType::f32);
  p.resolve(context, shape_of(m));
  const Bytes payload = p.encode(context, shape_of(m), elements_of(m.v, DType::f32), nullptr, nullptr, saliency);
  Bytes out(m.v.size() * 4);
  p.decode(context, shape_of(m), payload, out);
  return values_of(out, DType::f32);
}

/// Four kinds of channels, in no order, far from each other in range.
std::size_t kind_of(std::size_t channel) {
  return (channel * 7 + channel / 5) % 4;
}
Matrix four_kinds(std::size_t rows, std::size_t heads, std::size_t dim) {
  constexpr std::array<double, 4> kMiddle{0.1, 0.3, 12, -40}, kSpread{0.2, 3, 1, 6};
  ref::Random random(81);
  Matrix m{rows, heads, dim, std::vector<float>(rows * heads * dim)};
  for (std::size_t i = 0; i < m.v.size(); ++i) {
    const std::size_t kind = kind_of(i % m.cols());
    const double x = std::clamp(random.normal() / 2, -1.5, 1.5);
    m.v[i] = static_cast<float>(kMiddle[kind] + kSpread[kind] * x);
  }
  return m;
}

/// A token's range in each kind of channels.
struct Ranges {
  std::vector<double> low, high;
};
Ranges ranges_of(const Matrix& m) {
  Ranges out{std::vector<double>(4 * m.rows, HUGE_VAL), std::vector<double>(4 * m.rows, -HUGE_VAL)};
  for (std::size_t i = 0; i < m.v.size(); ++i) {
    const std::size_t at = i / m.cols() * 4 + kind_of(i % m.cols());
    out.low[at] = std::min(out.low[at], double{m.v[i]});
    out.high[at] = std::max(out.high[at], double{m.v[i]});
  }
  return out;
}
/// E4M3 with the power of two that brings the largest of all below 256.
void store_e4m3(std::vector<double>& x) {
  double largest = 0;
  for (const double v : x) largest = std::max(largest, std::fabs(v));
  const int shift = std::ilogb(largest) - 7;
  for (double& v : x) v = std::ldexp(double{ref::saturated(std::ldexp(v, -shift), ref::kE4m3)}, shift);
}

/// h = a (max - min) / (2^N - 1), z = a min, q = clamp(round((x - z) / h), 0, 2^N - 1), x' = h q + z
std::vector<double> clipped(const Matrix& m, const std::array<double, 4>& clip, double levels, bool e4m3) {
  const Ranges ranges = ranges_of(m);
  std::vector<double> h, z;
  for (std::size_t i = 0; i < ranges.low.size(); ++i) {
    h.push_back(clip[i % 4] * (ranges.high[i] - ranges.low[i]) / (levels - 1));
    z.push_back(clip[i % 4] * ranges.low[i]);
  }
  if (e4m3) store_e4m3(h), store_e4m3(z);
  std::vector<double> out;
  for (std::size_t i = 0; i < m.v.size(); ++i) {
    const std::size_t at = i / m.cols() * 4 + kind_of(i % m.cols());
    const double q = std::clamp(std::nearbyint((m.v[i] - z[at]) / h[at]), 0.0, levels - 1);
    out.push_back(h[at] * q + z[at]);
  }
  return out;
}

/// What lies in the middle of two levels may fall to either, by rounding.
void check_near(const std::vector<float>& decoded, const std::vector<double>& expected) {
  std::size_t far = 0;
  for (std::size_t i = 0; i < decoded.size(); ++i) {
    far += !(std::fabs(decoded[i] - expected[i]) <= 1e-5 * std::fabs(expected[i]) + 1e-6);
  }
  CHECK(far <= 4);
}

}  // namespace

TEST_CASE("skvq: channels of similar range share a token's clipped range, in E4M3") {
  const Matrix m = four_kinds(60, 2, 48);
  for (const double levels : {4.0, 3.0}) {
    for (const double clip : {0.92, 1.0}) {
      const std::string text = fmt::format("clusters:levels={}:group=24:clip={}", levels, clip);
      check_near(through(text + ":scale=f32,pack", m), clipped(m, {clip, clip, clip, clip}, levels, false));
      check_near(through(text + ":scale=e4m3,pack", m), clipped(m, {clip, clip, clip, clip}, levels, true));
    }
  }
}

TEST_CASE("skvq: each cluster has the clip of the least squared error") {
  const Matrix m = four_kinds(60, 2, 48);
  std::array<double, 4> best{}, least{};
  least.fill(HUGE_VAL);
  for (int step = 0; step < 16; ++step) {
    const double clip = 1 - 0.02 * step;
    const std::vector<double> out = clipped(m, {clip, clip, clip, clip}, 4, false);
    std::array<double, 4> error{};
    for (std::size_t i = 0; i < out.size(); ++i) {
      error[kind_of(i % m.cols())] += (out[i] - m.v[i]) * (out[i] - m.v[i]);
    }
    for (std::size_t k = 0; k < 4; ++k) {
      if (error[k] < least[k]) least[k] = error[k], best[k] = clip;
    }
  }
  CHECK(*std::min_element(best.begin(), best.end()) < 1);
  check_near(through("clusters:group=24:scale=f32,pack", m), clipped(m, best, 4, false));
}

TEST_CASE("skvq: sinks and window are exact, sizes are those of the formula") {
  const std::size_t tokens = 1100, coded = tokens - 133;
  const Matrix m = ref::synthetic(tokens, 2, 128, ref::kHalf, 82);
  const double channels = 256, exact = 133 * channels * 16, clusters = 2;
  for (const Role role : {Role::key, Role::value}) {
    const std::string text = preset_text("skvq", role);
    const Decoded out = through_pipeline(text, role, m, DType::f16);
    const auto at = [&](std::size_t row) { return static_cast<std::ptrdiff_t>(row * m.cols()); };
    CHECK(std::equal(m.v.begin(), m.v.begin() + at(5), out.values.begin()));
    CHECK(std::equal(m.v.begin() + at(tokens - 128), m.v.end(), out.values.begin() + at(tokens - 128)));
    const auto bits = [&](double code) {
      return exact + static_cast<double>(coded) * (code * channels + clusters * 16) + channels;
    };
    const auto size = [](const Decoded& d) { return static_cast<double>(d.payload) * 8; };
    MESSAGE(fmt::format("skvq: {} bits, formula {}", size(out), bits(role == Role::key ? 2 : std::log2(3.0))));
    if (role == Role::value) CHECK(size(out) < bits(std::log2(3.0)) * 1.02);  // codes are entropy-coded
    const Decoded packed = through_pipeline(text.substr(0, text.rfind(',')) + ",pack", role, m, DType::f16);
    CHECK(std::fabs(size(packed) / bits(2) - 1) < 0.02);
  }
}

TEST_CASE("clusters: more of them than different channels, and channels without a range") {
  Matrix m{3, 1, 5, {1, 1, 7, 0, 2, 1, 1, 7, 0, 2, 1, 1, 7, 0, 2}};
  CHECK(through("clusters:group=1:scale=f32:clip=1,pack", m) == m.v);
}

namespace {

/// Tokens of four kinds: in each group of channels a vector for each kind, and little noise.
struct Coupled {
  Matrix m;
  std::vector<std::size_t> kind;
};
Coupled four_vectors(std::size_t rows, std::size_t heads, std::size_t dim) {
  ref::Random random(83);
  Coupled out{{rows, heads, dim, {}}, {}};
  std::vector<double> vectors(4 * heads * dim);
  for (std::size_t i = 0; i < vectors.size(); ++i)
    vectors[i] = 10 * static_cast<double>((i / (heads * dim) + i) % 4) + random.normal();
  for (std::size_t r = 0; r < rows; ++r) {
    out.kind.push_back(random.below(4));
    for (std::size_t c = 0; c < heads * dim; ++c) {
      out.m.v.push_back(static_cast<float>(vectors[out.kind[r] * heads * dim + c] + 0.02 * random.normal()));
    }
  }
  return out;
}

}  // namespace

TEST_CASE("coupled quantization: a token decodes to the weighted mean of those like it, group by group") {
  const Coupled data = four_vectors(64, 2, 10);  // the third group of a head has two channels
  const Matrix& m = data.m;
  std::vector<float> saliency;
  for (std::size_t r = 0; r < m.rows; ++r) saliency.push_back(static_cast<float>(r % 9) - 4);
  for (const bool weighted : {false, true}) {
    const std::string text = fmt::format("couple:bits=2:weight={}:scale=f32,pack", weighted ? "saliency" : "none");
    const std::vector<float> out = through(text, m, saliency);
    for (std::size_t c = 0; c < m.cols(); ++c) {
      std::array<double, 4> sum{}, all{};
      for (std::size_t r = 0; r < m.rows; ++r) {
        const double weight = weighted ? std::exp2(saliency[r]) : 1;
        sum[data.kind[r]] += weight * m.at(r, c);
        all[data.kind[r]] += weight;
      }
      for (std::size_t r = 0; r < m.rows; ++r) {
        const double expected = sum[data.kind[r]] / all[data.kind[r]];
        CHECK(std::fabs(out[r * m.cols() + c] - expected) < 1e-5 * std::fabs(expected));
      }
    }
  }
}

TEST_CASE("coupled quantization: channels that depend on each other lose less than one by one") {
  ref::Random random(84);
  Matrix m{900, 1, 2, {}};
  for (std::size_t r = 0; r < m.rows; ++r) {
    const double angle = 6.283185307 * random.uniform();
    m.v.push_back(static_cast<float>(std::cos(angle) + 0.005 * random.normal()));
    m.v.push_back(static_cast<float>(std::sin(angle) + 0.005 * random.normal()));
  }
  // 256 places on the circle are 0.0245 apart; 16 levels in [-1, 1] 0.13. An error is a step over the root of 12.
  const double joint = squared_error(through("couple:channels=2:weight=none,pack", m), m.v);
  const double single = squared_error(through("nuq:bits=4:weight=none,pack", m), m.v);
  CHECK(joint < 900 * (0.0245 * 0.0245 / 12 + 2 * 0.005 * 0.005));
  CHECK(joint < single / 10);
}

TEST_CASE("coupled quantization: sizes are those of the formula, codebooks included") {
  const Matrix m = ref::synthetic(2048, 1, 16, ref::kHalf, 85);
  for (const int channels : {2, 4, 8}) {
    const Decoded out =
        through_pipeline(preset_text(fmt::format("cq-{}c8b", channels), Role::key), Role::key, m, DType::f16);
    const double bits = 2048.0 * 16 * 8 / channels + 16 * 256 * 16, size = static_cast<double>(out.payload) * 8;
    MESSAGE(fmt::format("cq-{}c8b: {} bits, formula {}", channels, size, bits));
    CHECK(std::fabs(size / bits - 1) < 0.02);
  }
}
