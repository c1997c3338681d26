// SPDX-License-Identifier: Apache-2.0
// The saliency of tokens straight from its definition (kvzip/saliency.hpp), in double, with every number in memory.
#pragma once

#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <map>

#include "kvzip/saliency.hpp"
#include "tests/contract/every_instruction_set.hpp"
#include "tests/contract/sample_dumps.hpp"

namespace kvzip::test::saliency {

inline constexpr std::uint64_t kHeads = 2, kGroup = 3, kTokens = 150, kDim = 8, kValueDim = 6;
inline constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

inline std::vector<Spec> specs(std::uint32_t layers, std::uint64_t queries, std::uint64_t tokens = kTokens) {
  std::vector<Spec> out;
  for (std::uint32_t l = 0; l < layers; ++l) {
    out.push_back({fmt::format("k{}", l), DType::f32, {kHeads, tokens, kDim}, Role::key, l, "HTD"});
    out.push_back({fmt::format("v{}", l), DType::f32, {kHeads, tokens, kValueDim}, Role::value, l, "HTD"});
    if (queries == 0) continue;
    out.push_back({fmt::format("q{}", l), DType::f32, {kHeads * kGroup, queries, kDim}, Role::query, l, "HTD"});
  }
  return out;
}

inline void set(MemoryReader& reader, std::string_view name, const std::vector<float>& values) {
  for (std::size_t i = 0; i < reader.dump().tensors.size(); ++i) {
    if (reader.dump().tensors[i].name == name) std::memcpy(reader.data(i).data(), values.data(), values.size() * 4);
  }
}
inline std::vector<float> get(const MemoryReader& reader, std::string_view name) {
  for (std::size_t i = 0; i < reader.dump().tensors.size(); ++i) {
    if (reader.dump().tensors[i].name == name) return floats_of(DType::f32, reader.data(i));
  }
  FAIL("no such tensor");
  return {};
}

/// Normal numbers, with a first token that draws attention and has a small value.
inline std::unique_ptr<MemoryReader> made(std::uint32_t layers, std::uint64_t queries, std::uint64_t tokens = kTokens) {
  auto reader = sample_reader(specs(layers, queries, tokens));
  for (std::uint32_t l = 0; l < layers; ++l) {
    std::vector<float> k = normal(kHeads * tokens * kDim, 3 * l + 1);
    std::vector<float> v = normal(kHeads * tokens * kValueDim, 3 * l + 2);
    std::vector<float> q = normal(kHeads * kGroup * queries * kDim, 3 * l + 3);
    for (std::uint64_t h = 0; h < kHeads; ++h) {
      for (std::uint64_t c = 0; c < kDim; ++c) k[h * tokens * kDim + c] = 1.5f;
      for (std::uint64_t c = 0; c < kValueDim; ++c) v[h * tokens * kValueDim + c] *= 0.01f;
    }
    for (float& x : q) x = 1.3f * x + 0.4f;
    set(*reader, fmt::format("k{}", l), k);
    set(*reader, fmt::format("v{}", l), v);
    set(*reader, fmt::format("q{}", l), q);
  }
  return reader;
}

inline double dot(const float* a, const float* b, std::size_t n) {
  double sum = 0;
  for (std::size_t i = 0; i < n; ++i) sum += double{a[i]} * b[i];
  return sum;
}
inline bool finite(const float* x, std::size_t n) {
  return std::all_of(x, x + n, [](float v) { return std::fabs(v) <= 1e8f; });
}

/// Mean over channels of the variance over tokens from the fifth on.
inline double variance(const std::vector<float>& x, std::size_t tokens, std::size_t dim) {
  double all = 0;
  for (std::size_t h = 0; h < kHeads; ++h) {
    for (std::size_t c = 0; c < dim; ++c) {
      double n = 0, sum = 0, squares = 0;
      for (std::size_t t = 4; t < tokens; ++t) {
        const double v = x[(h * tokens + t) * dim + c];
        if (std::fabs(v) <= 1e8) n += 1, sum += v, squares += v * v;
      }
      if (n > 0) all += squares / n - sum / n * sum / n;
    }
  }
  return all / static_cast<double>(kHeads * dim);
}

struct Direct {
  std::vector<float> keys, values, queries, plain_keys;  // plain: what the variance is taken of
  std::size_t tokens = kTokens;
  std::vector<std::size_t> positions;  // of the queries
  std::size_t window = 0;              // tokens that a query sees; 0 = all up to its own

  std::vector<std::vector<std::size_t>> kept{};  // positions of a head's tokens; empty = one after the other from 0

  std::size_t where(std::size_t head, std::size_t token) const { return kept.empty() ? token : kept[head][token]; }
  bool sees(std::size_t position, std::size_t head, std::size_t token) const {
    const std::size_t at = where(head, token);
    return at <= position && (window == 0 || at + window > position);
  }
  /// The query counts for the token.
  bool counts(std::size_t position, std::size_t head, std::size_t token) const {
    return where(head, token) + 16 <= position && sees(position, head, token);
  }
};

using Weights = std::array<std::vector<std::vector<double>>, 2>;  // keys, values; by head and token; NaN: left out

inline Weights direct(const Direct& d) {
  const std::size_t tokens = d.tokens, asking = d.positions.size();
  Weights w;
  for (auto& role : w) role.assign(kHeads, std::vector<double>(tokens));
  std::vector<std::vector<double>> count(kHeads, std::vector<double>(tokens));
  for (const std::size_t at : d.positions) {
    for (std::size_t h = 0; h < kHeads; ++h) {
      for (std::size_t t = 0; t < tokens; ++t) count[h][t] += d.counts(at, h, t) ? static_cast<double>(kGroup) : 0;
    }
  }
  double energy = 0, seen = 0;
  for (std::size_t j = 0; j < kHeads * kGroup; ++j) {
    const std::size_t h = j / kGroup;
    const float* keys = d.keys.data() + h * tokens * kDim;
    const float* values = d.values.data() + h * tokens * kValueDim;
    for (std::size_t i = 0; i < asking; ++i) {
      const float* q = d.queries.data() + (j * asking + i) * kDim;
      std::vector<double> a(tokens);
      double z = 0;
      for (std::size_t t = 0; t < tokens; ++t) {
        if (!finite(keys + t * kDim, kDim) || !finite(values + t * kValueDim, kValueDim)) continue;
        if (!d.sees(d.positions[i], h, t)) continue;
        z += a[t] = std::exp(dot(q, keys + t * kDim, kDim) / std::sqrt(double{kDim}));
      }
      std::vector<double> o(kValueDim);
      for (std::size_t t = 0; t < tokens; ++t) {
        a[t] = z > 0 ? a[t] / z : 0;
        for (std::size_t c = 0; a[t] > 0 && c < kValueDim; ++c) o[c] += a[t] * values[t * kValueDim + c];
      }
      if (!(z > 0)) continue;
      for (const double x : o) energy += x * x;
      seen += 1;
      for (std::size_t t = 0; t < tokens; ++t) {
        if (!d.counts(d.positions[i], h, t)) continue;
        double distance = 0;
        for (std::size_t c = 0; a[t] > 0 && c < kValueDim; ++c) {
          distance += (values[t * kValueDim + c] - o[c]) * (values[t * kValueDim + c] - o[c]);
        }
        w[0][h][t] += a[t] * a[t] * distance * dot(q, q, kDim) / kDim;
        w[1][h][t] += a[t] * a[t] * kValueDim;
      }
    }
  }
  energy /= seen;
  const double share = static_cast<double>(asking) / static_cast<double>(d.positions.back() - d.positions[0] + 1);
  for (std::size_t role = 0; role < 2; ++role) {
    const double spread = role == 0 ? variance(d.plain_keys.empty() ? d.keys : d.plain_keys, tokens, kDim)
                                    : variance(d.values, tokens, kValueDim);
    for (std::size_t h = 0; h < kHeads; ++h) {
      std::vector<bool> out(tokens);
      double sum = 0, counted = 0;
      for (std::size_t t = 0; t < tokens; ++t) {
        out[t] = !finite(&d.keys[(h * tokens + t) * kDim], kDim) ||
                 !finite(&d.values[(h * tokens + t) * kValueDim], kValueDim);
        if (t >= 4 && !out[t]) sum += w[role][h][t], counted += count[h][t];
      }
      for (std::size_t t = 0; t < tokens; ++t) {
        const double prior = 8 * kGroup * share;
        const double mean = (w[role][h][t] + prior * sum / counted) / (count[h][t] + prior);
        w[role][h][t] = out[t] ? kNone : mean / energy * spread;
      }
    }
  }
  return w;
}

/// Floor, logarithm, and the mean of all taken off, as the saliency of layers.
inline std::map<Saliency::Head, std::vector<double>> finish(const std::vector<Weights>& layers) {
  std::map<Saliency::Head, std::vector<double>> out;
  double all = 0, n = 0;
  for (std::uint32_t l = 0; l < layers.size(); ++l) {
    for (std::size_t role = 0; role < 2; ++role) {
      for (std::size_t h = 0; h < kHeads; ++h) {
        const std::vector<double>& w = layers[l][role][h];
        double sum = 0, count = 0;
        for (std::size_t t = 4; t < w.size(); ++t) {
          if (!std::isnan(w[t])) sum += w[t], count += 1;
        }
        auto& s = out[{role == 0 ? Role::key : Role::value, l, 0, h}];
        for (const double x : w) {
          s.push_back(std::log2(std::max(x, 0.02 * sum / count)));
          if (!std::isnan(x)) all += s.back(), n += 1;
          if (std::isnan(x)) s.back() = kNone;
        }
      }
    }
  }
  for (auto& [head, s] : out) {
    for (double& x : s) x = std::isnan(x) ? 0 : x - all / n;
  }
  return out;
}

inline void check_same(const Saliency& got, const std::map<Saliency::Head, std::vector<double>>& want) {
  CHECK(got.from_queries);
  REQUIRE(got.heads.size() == want.size());
  for (const auto& one : want) {
    const std::vector<float>& x = got.heads.at(one.first);
    REQUIRE(x.size() == one.second.size());
    double worst = 0;
    for (std::size_t t = 0; t < x.size(); ++t) worst = std::max(worst, std::fabs(x[t] - one.second[t]));
    CAPTURE(one.first.layer);
    CAPTURE(one.first.head);
    CHECK(worst < 1e-4);
  }
}

inline Direct direct_of(const MemoryReader& reader, std::uint32_t layer, std::uint64_t queries, std::uint64_t first) {
  Direct d{get(reader, fmt::format("k{}", layer)),
           get(reader, fmt::format("v{}", layer)),
           get(reader, fmt::format("q{}", layer)),
           {},
           kTokens,
           {},
           0};
  for (std::uint64_t i = 0; i < queries; ++i) d.positions.push_back(first + i);
  return d;
}

inline Saliency measured(MemoryReader& reader, const SaliencyOptions& options = {}) {
  return measure_saliency(reader, *reader.recognition(), options);
}

inline std::vector<float> flat(const Saliency& s) {
  std::vector<float> out;
  for (const auto& [head, numbers] : s.heads) out.insert(out.end(), numbers.begin(), numbers.end());
  return out;
}

}  // namespace kvzip::test::saliency
