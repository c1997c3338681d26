// SPDX-License-Identifier: Apache-2.0
// Merged caches against KVMerger's formulas (arXiv 2407.08454), worked out in double from the cache itself.
#include "src/prune/merge.hpp"

#include <doctest/doctest.h>

#include <cmath>

#include "codec/splitmix64.hpp"
#include "src/prune/pruned_reader.hpp"
#include "tests/support/cache_layouts.hpp"

using namespace kvzip;
using namespace kvzip::test;
using namespace kvzip::tool;

namespace {

using List = std::vector<std::uint64_t>;

/// Keys or values of a list's heads, side by side: tokens x channels.
std::vector<std::vector<double>> rows_of(const Cache& from, KeepBy by, std::size_t batch, std::size_t layer,
                                         std::size_t head) {
  std::vector<std::vector<double>> out(kTokens);
  for (std::size_t l = 0; l < kLayers; ++l) {
    for (std::size_t h = 0; h < kHeads; ++h) {
      if ((by != KeepBy::sequence && l != layer) || (by == KeepBy::head && h != head)) continue;
      for (std::size_t t = 0; t < kTokens; ++t) {
        for (std::size_t d = 0; d < kDim; ++d) out[t].push_back(from.x[from.at(l, batch, h, t, d)]);
      }
    }
  }
  return out;
}

double dot(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (std::size_t c = 0; c < a.size(); ++c) sum += a[c] * b[c];
  return sum;
}
double distance(const std::vector<double>& a, const std::vector<double>& b) {
  return std::sqrt(std::max(0.0, dot(a, a) - 2 * dot(a, b) + dot(b, b)));
}

/// The merging sets: of all tokens that can still join the one before, the one with the largest cosine does, again and
/// again, until `count` sets are left.
std::vector<List> merging_sets(const std::vector<std::vector<double>>& keys, std::size_t sinks, std::size_t window,
                               std::size_t count) {
  std::vector<bool> joined(keys.size(), false);
  for (std::size_t left = keys.size(); left > count; --left) {
    std::size_t best = 0;
    double most = -2;
    for (std::size_t t = sinks + 1; t < keys.size() - window; ++t) {
      const double cosine =
          dot(keys[t - 1], keys[t]) / std::sqrt(dot(keys[t - 1], keys[t - 1]) * dot(keys[t], keys[t]));
      if (!joined[t] && cosine > most) most = cosine, best = t;
    }
    joined[best] = true;
  }
  std::vector<List> out;
  for (std::size_t t = 0; t < keys.size(); ++t) {
    if (!joined[t]) out.emplace_back();
    out.back().push_back(t);
  }
  return out;
}

/// w_i = g_i / sum g, g_i = exp(-|k_p - k_i|^2 / 2 s^2), s the mean distance of the others from the pivot.
std::vector<double> gaussian_weights(const std::vector<std::vector<double>>& keys, const List& set,
                                     std::uint64_t pivot) {
  double s = 0, sum = 0;
  for (const std::uint64_t t : set) s += distance(keys[pivot], keys[t]) / static_cast<double>(set.size() - 1);
  std::vector<double> g;
  for (const std::uint64_t t : set) {
    g.push_back(set.size() == 1 ? 1 : std::exp(-std::pow(distance(keys[pivot], keys[t]), 2) / (2 * s * s)));
    sum += g.back();
  }
  for (double& w : g) w /= sum;
  return g;
}

std::map<Asking::Layer, LayerScores> scores_of(std::size_t batch) {
  std::map<Asking::Layer, LayerScores> out;
  for (std::uint32_t l = 0; l < kLayers; ++l) {
    for (std::uint64_t b = 0; b < batch; ++b) {
      for (std::size_t h = 0; h < kHeads; ++h) {
        auto& scores = out[{l, b}].emplace_back();
        for (std::size_t t = 0; t < kTokens; ++t) scores.push_back(double(splitmix64(100 * l + 10 * b + h, t) >> 40));
      }
    }
  }
  return out;
}

double score_of(const std::map<Asking::Layer, LayerScores>& scores, KeepBy by, std::size_t batch, std::size_t layer,
                std::size_t head, std::uint64_t token) {
  double sum = 0;
  for (const auto& [at, heads] : scores) {
    if (at.second != batch || (by != KeepBy::sequence && at.first != layer)) continue;
    for (std::size_t h = 0; h < kHeads; ++h) sum += by == KeepBy::head && h != head ? 0 : heads[h][token];
  }
  return sum;
}

constexpr Budget kBudget{40, 2, 10};

struct Wanted {
  const Sides& sides;
  const std::map<Asking::Layer, LayerScores>& scores;
  KeepBy by;
  std::size_t batch, layer;
};

/// Token i of the shorter cache in one head, of which all but the first were read.
void check_token(const Wanted& w, std::size_t head, std::size_t i, const List& set, std::int64_t stated,
                 const std::vector<float>& keys, const std::vector<float>& values) {
  const auto score = [&](std::uint64_t t) { return score_of(w.scores, w.by, w.batch, w.layer, head, t); };
  std::uint64_t pivot = set[0];
  for (const std::uint64_t t : set) {
    if (score(t) > score(pivot)) pivot = t;
  }
  REQUIRE(stated == static_cast<std::int64_t>(pivot));
  const std::vector<double> g = gaussian_weights(rows_of(w.sides.key, w.by, w.batch, w.layer, head), set, pivot);
  for (std::size_t d = 0; d < kDim; ++d) {
    double key = 0, value = 0;
    for (std::size_t j = 0; j < g.size(); ++j) {
      key += g[j] * w.sides.key.x[w.sides.key.at(w.layer, w.batch, head, set[j], d)];
      value +=
          static_cast<double>(g.size()) * g[j] * w.sides.value.x[w.sides.value.at(w.layer, w.batch, head, set[j], d)];
    }
    const std::size_t e = (head * (kBudget.tokens - 1) + i - 1) * kDim + d;
    REQUIRE(keys[e] == doctest::Approx(key).epsilon(1e-5));
    REQUIRE(values[e] == doctest::Approx(value).epsilon(1e-5));
  }
}

void check_layer(PrunedReader& pruned, const LayerHeads& place, const Wanted& w,
                 const std::vector<std::int64_t>& positions) {
  std::vector<float> keys, values;
  REQUIRE(place.keys[0].tokens == kBudget.tokens);
  place.keys[0].read(pruned, place.keys[0].tensor, 1, kBudget.tokens - 1, keys);
  place.values[0].read(pruned, place.values[0].tensor, 1, kBudget.tokens - 1, values);
  for (std::size_t h = 0; h < kHeads; ++h) {
    const std::vector<List> sets =
        merging_sets(rows_of(w.sides.key, w.by, w.batch, w.layer, h), kBudget.sinks, kBudget.window, kBudget.tokens);
    REQUIRE(sets.size() == kBudget.tokens);
    std::size_t list = w.batch;
    if (w.by != KeepBy::sequence) list = list * kLayers + w.layer;
    if (w.by == KeepBy::head) list = list * kHeads + h;
    for (std::size_t i = 1; i < sets.size(); ++i) {
      check_token(w, h, i, sets[i], positions[list * kBudget.tokens + i], keys, values);
    }
  }
}

}  // namespace

TEST_CASE("merge: neighbours join from the most alike on, between sinks and window") {
  const std::vector<double> alike{0, 0.9, 0.1, 0.95, 0.9, 0.2};
  CHECK(choose_runs(alike, {6, 0, 0}) == List{0, 1, 2, 3, 4, 5});
  CHECK(choose_runs(alike, {5, 0, 0}) == List{0, 1, 2, 4, 5});
  CHECK(choose_runs(alike, {4, 0, 0}) == List{0, 2, 4, 5});  // of equals the first
  CHECK(choose_runs(alike, {3, 0, 0}) == List{0, 2, 5});
  CHECK(choose_runs(alike, {1, 0, 0}) == List{0});
  CHECK(choose_runs(alike, {4, 1, 1}) == List{0, 1, 2, 5});
  CHECK(choose_runs(alike, {3, 1, 1}) == List{0, 1, 5});
}

TEST_CASE("merge: weights fall with the distance from the token that stays") {
  const std::vector<double> distances{1, 0, 3}, w = merge_weights(distances);
  const double near = std::exp(-1.0 / 8), far = std::exp(-9.0 / 8), all = near + 1 + far;  // s = 2
  CHECK(w[0] == doctest::Approx(near / all));
  CHECK(w[1] == doctest::Approx(1 / all));
  CHECK(w[2] == doctest::Approx(far / all));
  CHECK(merge_weights(std::vector<double>{0}) == std::vector<double>{1});
  CHECK(merge_weights(std::vector<double>{0, 0}) == std::vector<double>{0.5, 0.5});
  CHECK(merge_weights(std::vector<double>{std::nan(""), 0}) == std::vector<double>{0, 1});
}

TEST_CASE("merge: in every layout keys are Gaussian means of runs, values so many times as much as a run has tokens") {
  const Sides s;
  struct Case {
    const char* name;
    Layout layout;
    std::size_t batch;
  };
  for (const Case& c : {Case{"HTD", separate("HTD"), 1}, Case{"DHT", separate("DHT"), 1}, Case{"TC", separate("TC"), 1},
                        Case{"BHTD", separate("BHTD"), kBatch}, Case{"2LTHD", paired("2LTHD", "LTHD"), 1},
                        Case{"L2BHTD", paired("L2BHTD", "BLHTD"), kBatch}}) {
    const Made made = c.layout(s.key, s.value, &s.query);
    for (const KeepBy by : {KeepBy::sequence, KeepBy::layer, KeepBy::head}) {
      if (by == KeepBy::head && made.recognition.tensors[0].axes.has('C')) continue;
      CAPTURE(c.name);
      CAPTURE(static_cast<int>(by));
      MemoryReader reader = made.reader();
      const auto scores = scores_of(c.batch);
      const HeadMap heads = find_heads(made.dump, made.recognition, 0);
      PrunedReader pruned(reader, made.recognition, keep_by_merging(reader, heads, scores, by, kBudget));
      Recognition roles = made.recognition;
      std::erase_if(roles.tensors, [](const TensorRole& role) { return role.role == Role::query; });
      const TensorInfo& info = pruned.dump().tensors.back();
      std::vector<std::int64_t> positions(info.elements());
      pruned.read({roles.tensors.size(), List(info.shape.size(), 0), info.shape},
                  std::as_writable_bytes(std::span(positions)));
      for (const auto& [layer, place] : find_heads(pruned.dump(), roles, 0)) {
        check_layer(pruned, place, {s, scores, by, layer.second, layer.first}, positions);
      }
    }
  }
}

TEST_CASE("merge: keys that are not finite merge with nothing as long as others can, and weigh nothing") {
  const Sides s;
  Made made = separate("HTD")(s.key, s.value, nullptr);
  for (std::size_t d = 0; d < kDim; ++d) made.data[0][70 * kDim + d] = std::nanf("");
  MemoryReader reader = made.reader();
  const HeadMap heads = find_heads(made.dump, made.recognition, 0);
  const Kept some = keep_by_merging(reader, heads, scores_of(1), KeepBy::head, {100, 0, 0});
  CHECK(std::ranges::binary_search(some.of(0, 0, 0), 70u));
  const Kept one = keep_by_merging(reader, heads, scores_of(1), KeepBy::head, {1, 0, 0});
  PrunedReader pruned(reader, made.recognition, one);
  std::vector<float> keys;
  heads.at({0, 0}).keys[0].read(pruned, 0, 0, 1, keys);
  CHECK(std::isfinite(keys[0]) == (one.of(0, 0, 0)[0] != 70));
}
