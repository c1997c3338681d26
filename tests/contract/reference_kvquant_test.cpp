// SPDX-License-Identifier: Apache-2.0
// KVQuant (arXiv 2401.18079): ranges, levels, Q-Norm, outliers and the exact sink against their definitions.
#include <fmt/format.h>

#include <set>

#include "tests/contract/reference_drive.hpp"

using namespace kvzip;
using namespace kvzip::test;
namespace ref = kvzip::reference;

namespace {

/// The values of one vector each: a channel's tokens, or a token's channels; of tokens from `first` on.
std::vector<ref::Group> vectors(const Matrix& m, bool by_channel, std::size_t first = 0) {
  std::vector<ref::Group> out(by_channel ? m.cols() : m.rows - first);
  for (std::size_t r = first; r < m.rows; ++r) {
    for (std::size_t c = 0; c < m.cols(); ++c) out[by_channel ? c : r - first].push_back(r * m.cols() + c);
  }
  return out;
}

/// z of each value, NaN where `left_out`; ranges are of what is not left out.
struct Normalised {
  std::vector<double> z, half, middle;  // half and middle by value
};
Normalised normalised(const std::vector<float>& x, const std::vector<ref::Group>& groups,
                      const std::set<std::size_t>& left_out = {}) {
  Normalised n{std::vector<double>(x.size(), NAN), std::vector<double>(x.size()), std::vector<double>(x.size())};
  for (const ref::Group& group : groups) {
    double low = HUGE_VAL, high = -HUGE_VAL;
    for (const std::size_t i : group) {
      if (left_out.count(i) != 0) continue;
      low = std::min(low, double{x[i]});
      high = std::max(high, double{x[i]});
    }
    for (const std::size_t i : group) {
      n.half[i] = (high - low) / 2;
      n.middle[i] = (high + low) / 2;
      if (left_out.count(i) == 0) n.z[i] = n.half[i] == 0 ? 0 : (x[i] - n.middle[i]) / n.half[i];
    }
  }
  return n;
}

/// Lloyd's iteration from random starts, as the paper's released code clusters (scikit-learn): the least error found.
double lloyd(const std::vector<double>& z, const std::vector<double>& weight, std::size_t count) {
  ref::Random random(17);
  double least = HUGE_VAL;
  for (int start = 0; start < 6; ++start) {
    std::vector<double> levels(count);
    for (double& level : levels) level = z[random.below(z.size())];
    double error = HUGE_VAL;
    for (int loop = 0; loop < 60; ++loop) {
      std::vector<double> sum(count), all(count);
      error = 0;
      for (std::size_t i = 0; i < z.size(); ++i) {
        std::size_t best = 0;
        for (std::size_t k = 1; k < count; ++k) {
          if (std::fabs(z[i] - levels[k]) < std::fabs(z[i] - levels[best])) best = k;
        }
        sum[best] += weight[i] * z[i];
        all[best] += weight[i];
        error += weight[i] * (z[i] - levels[best]) * (z[i] - levels[best]);
      }
      for (std::size_t k = 0; k < count; ++k) {
        if (all[k] > 0) levels[k] = sum[k] / all[k];
      }
    }
    least = std::min(least, error);
  }
  return least;
}

double weighted_error(const Normalised& n, const std::vector<float>& decoded, const std::vector<double>& weight) {
  double sum = 0;
  for (std::size_t i = 0; i < decoded.size(); ++i) {
    if (std::isnan(n.z[i]) || n.half[i] == 0) continue;
    const double z = (decoded[i] - n.middle[i]) / n.half[i];
    sum += weight[i] * (z - n.z[i]) * (z - n.z[i]);
  }
  return sum;
}

/// Levels in use: distinct decoded z, to within rounding.
std::vector<double> levels_of(const Normalised& n, const std::vector<float>& decoded) {
  std::vector<double> all, levels;
  for (std::size_t i = 0; i < decoded.size(); ++i) {
    if (!std::isnan(n.z[i]) && n.half[i] > 1e-3) all.push_back((decoded[i] - n.middle[i]) / n.half[i]);
  }
  std::sort(all.begin(), all.end());
  for (const double z : all) {
    if (levels.empty() || z - levels.back() > 1e-3) levels.push_back(z);
  }
  return levels;
}

std::vector<float> through(const std::string& text, Role role, const Matrix& m, const std::vector<float>& saliency) {
  Pipeline p = Pipeline::parse(text);
  const TileContext context = context_of(m, role, DType::f32);
  p.resolve(context, shape_of(m));
  const Bytes payload = p.encode(context, shape_of(m), elements_of(m.v, DType::f32), nullptr, nullptr, saliency);
  Bytes out(m.v.size() * 4);
  p.decode(context, shape_of(m), payload, out);
  return values_of(out, DType::f32);
}

}  // namespace

TEST_CASE("kvquant: levels are those of weighted k-means, and each value has the nearest") {
  const Matrix m = ref::synthetic(160, 2, 24, ref::kSingle, 21);
  for (const bool by_channel : {true, false}) {
    const Normalised n = normalised(m.v, vectors(m, by_channel));
    for (const std::size_t bits : {2u, 3u, 4u}) {
      for (const bool weighted : {false, true}) {
        CAPTURE(by_channel);
        CAPTURE(bits);
        CAPTURE(weighted);
        std::vector<float> saliency(weighted ? m.rows : 0);
        std::vector<double> weight(m.v.size(), 1.0);
        for (std::size_t r = 0; r < saliency.size(); ++r) saliency[r] = static_cast<float>(r % 5) - 2;
        for (std::size_t i = 0; weighted && i < weight.size(); ++i) weight[i] = std::exp2(saliency[i / m.cols()]);
        const auto text = fmt::format("nuq:bits={}:axis={}:scale=f32,pack", bits, by_channel ? "channel" : "token");
        const auto decoded = through(text, Role::key, m, saliency);
        const std::vector<double> levels = levels_of(n, decoded);
        CHECK(levels.size() <= std::size_t{1} << bits);
        CHECK(levels.size() > std::size_t{1} << (bits - 1));
        std::size_t wrong = 0;
        for (std::size_t i = 0; i < decoded.size(); ++i) {
          const double own = std::fabs((decoded[i] - n.middle[i]) / n.half[i] - n.z[i]);
          for (const double level : levels) wrong += std::fabs(level - n.z[i]) < own - 1e-3;
        }
        CHECK(wrong == 0);
        const double least = lloyd(n.z, weight, std::size_t{1} << bits);
        CHECK(weighted_error(n, decoded, weight) < 1.01 * least);
        if (!weighted) continue;
        const auto plain = through(text, Role::key, m, {});
        CHECK(weighted_error(n, decoded, weight) < weighted_error(n, plain, weight));
      }
    }
  }
}

TEST_CASE("kvquant: Q-Norm keeps mean and deviation") {
  const Matrix m = ref::synthetic(200, 2, 32, ref::kSingle, 22);
  const Normalised n = normalised(m.v, vectors(m, true));
  const auto moments = [&](const std::vector<float>& x) {
    double sum = 0, square = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double z = (x[i] - n.middle[i]) / n.half[i];
      sum += z, square += z * z;
    }
    const double mean = sum / static_cast<double>(x.size());
    return std::pair(mean, std::sqrt(square / static_cast<double>(x.size()) - mean * mean));
  };
  const auto before = moments(m.v);
  const auto plain = moments(through("nuq:bits=2:scale=f32,pack", Role::key, m, {}));
  const auto normed = moments(through("nuq:bits=2:scale=f32:norm=moments,pack", Role::key, m, {}));
  CHECK(std::fabs(normed.first - before.first) < 1e-4);
  CHECK(std::fabs(normed.second / before.second - 1) < 1e-4);
  CHECK(plain.second < 0.99 * before.second);  // means of clusters lose what is within them
}

TEST_CASE("kvquant: the sink and the outliers are exact, all else is within its range's levels") {
  for (const std::string preset : {"kvquant-2-1pct", "kvquant-3-1pct", "kvquant-4-1pct", "kvquant-3"}) {
    for (const bool by_channel : {true, false}) {
      CAPTURE(preset);
      CAPTURE(by_channel);
      const Matrix m = ref::synthetic(401, 2, 100, ref::kHalf, 23);
      const Role role = by_channel ? Role::key : Role::value;
      const auto out = through_pipeline(preset_text(preset, role), role, m, DType::f16);
      CHECK_FALSE(out.sizes.raw);
      CHECK(std::equal(m.v.begin(), m.v.begin() + 200, out.values.begin()));
      // floor(n / 200) of the smallest and of the largest values of each vector.
      std::set<std::size_t> exact;
      const auto groups = vectors(m, by_channel, 1);
      for (ref::Group group : groups) {
        const std::size_t each = preset == "kvquant-3" ? 0 : group.size() / 200;
        std::stable_sort(group.begin(), group.end(), [&](std::size_t a, std::size_t b) { return m.v[a] < m.v[b]; });
        exact.insert(group.begin(), group.begin() + static_cast<std::ptrdiff_t>(each));
        std::stable_sort(group.begin(), group.end(), [&](std::size_t a, std::size_t b) { return m.v[a] > m.v[b]; });
        exact.insert(group.begin(), group.begin() + static_cast<std::ptrdiff_t>(each));
      }
      std::size_t wrong = 0;
      for (const std::size_t i : exact) wrong += out.values[i] != m.v[i];
      CHECK(wrong == 0);
      const Normalised n = normalised(m.v, groups, exact);
      const double bits = preset[8] - '0';
      std::vector<double> z;
      for (const double x : n.z) {
        if (!std::isnan(x)) z.push_back(x);
      }
      const double least = lloyd(z, std::vector<double>(z.size(), 1.0), std::size_t{1} << static_cast<int>(bits));
      // Half precision of ranges, levels and values; Q-Norm costs some error.
      CHECK(weighted_error(n, out.values, std::vector<double>(m.v.size(), 1.0)) < (bits == 2 ? 1.3 : 1.03) * least);
    }
  }
}

TEST_CASE("kvquant: sizes are those of the formula") {
  // bits + 32 / n for a vector's range; of an outlier 16 bits and its position: log2 of the choices of k out of n.
  const std::size_t rows = 2049;
  const Matrix m = ref::synthetic(rows, 8, 128, ref::kHalf, 24);
  const auto position = [](double n, double k) {
    return (std::lgamma(n + 1) - std::lgamma(k + 1) - std::lgamma(n - k + 1)) / std::log(2.0) / k;
  };
  for (const int bits : {2, 3, 4}) {
    for (const bool outliers : {false, true}) {
      for (const Role role : {Role::key, Role::value}) {
        const std::string preset = fmt::format("kvquant-{}{}", bits, outliers ? "-1pct" : "");
        const auto out = through_pipeline(preset_text(preset, role), role, m, DType::f16);
        const double n = role == Role::key ? 2048 : 1024, k = outliers ? 2 * std::floor(n * 0.005) : 0;
        const double each = bits + 32 / n + (k == 0 ? 0 : k / n * (16 + position(n, k)));
        const double expected = (each * 2048 + 16) / rows;
        const double measured = static_cast<double>(out.payload) * 8 / static_cast<double>(m.v.size());
        MESSAGE(fmt::format("{}, {}: {} bits, formula {}", preset, role_name(role), measured, expected));
        CHECK(std::fabs(measured / expected - 1) < 0.02);
      }
    }
  }
}
