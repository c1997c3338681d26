// SPDX-License-Identifier: Apache-2.0
// Measures of attention straight from their definitions, in double, with every logit in memory.
#pragma once

#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>
#include <vector>

#include "src/measure/attention_meter.hpp"

namespace kvzip::test {

/// One head: keys and values of both sides, tokens x channels, with their positions; and queries with theirs.
struct DirectHead {
  std::size_t dim = 1, value_dim = 1;
  double scale = 0;  // 0 = 1 / sqrt(dim)
  std::size_t top_k = 16;
  std::uint64_t window = 0;  // tokens that a query sees; 0 = all up to its own
  std::vector<float> keys, values, decoded_keys, decoded_values;
  std::vector<std::uint64_t> token_positions;
};

inline double dot_of(const float* a, const float* b, std::size_t n) {
  double sum = 0;
  for (std::size_t i = 0; i < n; ++i) sum += double{a[i]} * b[i];
  return sum;
}

/// p = softmax(s), and log p.
inline std::vector<double> log_softmax(const std::vector<double>& s) {
  const double top = *std::max_element(s.begin(), s.end());
  double sum = 0;
  for (const double x : s) sum += std::exp(x - top);
  std::vector<double> out;
  for (const double x : s) out.push_back(x - top - std::log(sum));
  return out;
}

inline std::vector<std::size_t> top_tokens(const std::vector<double>& s, std::size_t k) {
  std::vector<std::size_t> order(s.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return s[a] > s[b]; });
  order.resize(std::min(k, order.size()));
  std::sort(order.begin(), order.end());
  return order;
}

inline std::vector<double> output_of(const std::vector<double>& log_p, const std::vector<std::size_t>& seen,
                                     const std::vector<float>& values, std::size_t dim) {
  std::vector<double> out(dim);
  for (std::size_t i = 0; i < seen.size(); ++i) {
    for (std::size_t c = 0; c < dim; ++c) out[c] += std::exp(log_p[i]) * values[seen[i] * dim + c];
  }
  return out;
}

/// Adds one query to the sums. Tokens that `usable` does not hold are not there.
inline void add_query(const DirectHead& h, const float* query, std::uint64_t position, const std::vector<bool>& usable,
                      AttentionError& e) {
  const double scale = h.scale != 0 ? h.scale : 1 / std::sqrt(static_cast<double>(h.dim));
  std::vector<std::size_t> seen;
  std::vector<double> s, d;
  for (std::size_t t = 0; t < h.token_positions.size(); ++t) {
    if (h.token_positions[t] > position) continue;
    if (h.window != 0 && h.token_positions[t] + h.window <= position) continue;
    if (!usable[t]) {
      ++e.left_out;
      continue;
    }
    seen.push_back(t);
    s.push_back(scale * dot_of(query, h.keys.data() + t * h.dim, h.dim));
    d.push_back(scale * dot_of(query, h.decoded_keys.data() + t * h.dim, h.dim));
  }
  if (seen.empty()) return;
  const std::vector<double> p = log_softmax(s), q = log_softmax(d);
  for (std::size_t i = 0; i < s.size(); ++i) {
    e.logit_error += (s[i] - d[i]) * (s[i] - d[i]);
    e.logit_energy += s[i] * s[i];
    e.divergence += std::exp(p[i]) * (p[i] - q[i]);
  }
  const auto a = top_tokens(s, h.top_k), b = top_tokens(d, h.top_k);
  std::vector<std::size_t> common;
  std::set_intersection(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(common));
  e.overlap += static_cast<double>(common.size()) / static_cast<double>(a.size());
  const auto x = output_of(p, seen, h.values, h.value_dim), y = output_of(q, seen, h.decoded_values, h.value_dim);
  double xx = 0, yy = 0, xy = 0;
  for (std::size_t c = 0; c < h.value_dim; ++c) {
    e.output_error += (x[c] - y[c]) * (x[c] - y[c]);
    xx += x[c] * x[c], yy += y[c] * y[c], xy += x[c] * y[c];
  }
  e.output_energy += xx;
  e.cosine += xx == 0 && yy == 0 ? 1 : xx == 0 || yy == 0 ? 0 : xy / std::sqrt(xx * yy);
  ++e.queries;
}

inline AttentionError direct(const DirectHead& h, std::span<const float> queries,
                             std::span<const std::uint64_t> positions) {
  const std::size_t tokens = h.token_positions.size();
  std::vector<bool> usable(tokens);
  for (std::size_t t = 0; t < tokens; ++t) {
    const auto finite = [&](const std::vector<float>& x, std::size_t dim) {
      return std::all_of(x.begin() + static_cast<std::ptrdiff_t>(t * dim),
                         x.begin() + static_cast<std::ptrdiff_t>((t + 1) * dim),
                         [](float v) { return std::isfinite(v); });
    };
    usable[t] = finite(h.keys, h.dim) && finite(h.decoded_keys, h.dim) && finite(h.values, h.value_dim) &&
                finite(h.decoded_values, h.value_dim);
  }
  AttentionError e;
  for (std::size_t i = 0; i < positions.size(); ++i) {
    const float* query = queries.data() + i * h.dim;
    if (std::all_of(query, query + h.dim, [](float v) { return std::isfinite(v); })) {
      add_query(h, query, positions[i], usable, e);
    }
  }
  return e;
}

}  // namespace kvzip::test
