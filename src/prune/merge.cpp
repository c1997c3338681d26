// SPDX-License-Identifier: Apache-2.0
#include "src/prune/merge.hpp"

#include <algorithm>
#include <cmath>
#include <functional>

#include "codec/portable_math.hpp"

namespace kvzip::tool {
namespace {

using Lists = std::map<Kept::Place, std::vector<double>>;  // a number for each token

/// Calls use(list's place, keys of one head: tokens x dims, dims) for each layer, batch entry and head.
void for_each_head(DumpReader& reader, const HeadMap& heads, KeepBy by,
                   const std::function<void(const Kept::Place&, const float*, std::size_t)>& use) {
  std::vector<float> keys;
  for (const auto& [layer, place] : heads) {
    for (const HeadRows& rows : place.keys) {
      rows.read(reader, rows.tensor, 0, rows.tokens, keys);
      for (std::uint64_t head = 0; head < rows.heads; ++head) {
        use(Kept::place(by, layer.second, layer.first, head), keys.data() + head * rows.tokens * rows.dims, rows.dims);
      }
    }
  }
}

double product(const float* a, const float* b, std::size_t dims) {
  double sum = 0;
  for (std::size_t c = 0; c < dims; ++c) sum += double{a[c]} * b[c];
  return sum;
}

double square_distance(const float* a, const float* b, std::size_t dims) {
  double sum = 0;
  for (std::size_t c = 0; c < dims; ++c) sum += (double{a[c]} - b[c]) * (double{a[c]} - b[c]);
  return sum;
}

/// Of each token's keys with those of the token before; -2 where that is not a number.
Lists cosines(DumpReader& reader, const HeadMap& heads, KeepBy by, std::uint64_t tokens) {
  Lists squares, out;
  for_each_head(reader, heads, by, [&](const Kept::Place& place, const float* keys, std::size_t dims) {
    std::vector<double>&square = squares[place], &dot = out[place];
    square.resize(tokens);
    dot.resize(tokens);
    for (std::uint64_t t = 0; t < tokens; ++t) {
      square[t] += product(keys + t * dims, keys + t * dims, dims);
      if (t > 0) dot[t] += product(keys + (t - 1) * dims, keys + t * dims, dims);
    }
  });
  for (auto& [place, dot] : out) {
    const std::vector<double>& square = squares.at(place);
    for (std::uint64_t t = 1; t < tokens; ++t) {
      const double lengths = std::sqrt(square[t - 1]) * std::sqrt(square[t]);
      const double zeros = square[t - 1] == square[t] ? 1 : 0;
      dot[t] = lengths == 0 ? zeros : dot[t] / lengths;
      if (!std::isfinite(dot[t])) dot[t] = -2;
    }
  }
  return out;
}

/// Of each token's keys from those of the token of its run that stays.
Lists distances(DumpReader& reader, const HeadMap& heads, const Kept& kept, std::uint64_t tokens) {
  Lists out;
  for_each_head(reader, heads, kept.by, [&](const Kept::Place& place, const float* keys, std::size_t dims) {
    const std::vector<std::uint64_t>&list = kept.lists.at(place), &begins = kept.runs.at(place).begins;
    std::vector<double>& sum = out[place];
    sum.resize(tokens);
    for (std::size_t i = 0; i < list.size(); ++i) {
      for (std::uint64_t t = begins[i]; t < begins[i + 1]; ++t) {
        if (t != list[i]) sum[t] += square_distance(keys + t * dims, keys + list[i] * dims, dims);
      }
    }
  });
  for (auto& [place, sum] : out) {
    for (double& d : sum) d = std::sqrt(d);
  }
  return out;
}

}  // namespace

std::vector<std::uint64_t> choose_runs(std::span<const double> alike, const Budget& budget) {
  const std::uint64_t tokens = alike.size(), middle_end = tokens - budget.window;
  std::vector<std::uint64_t> order;  // tokens that can join the one before
  for (std::uint64_t t = budget.sinks + 1; t < middle_end; ++t) order.push_back(t);
  std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return alike[a] > alike[b]; });
  order.resize(std::min<std::uint64_t>(order.size(), tokens - budget.tokens));
  std::sort(order.begin(), order.end());
  std::vector<std::uint64_t> begins;
  for (std::uint64_t t = 0; t < tokens; ++t) {
    if (!std::binary_search(order.begin(), order.end(), t)) begins.push_back(t);
  }
  return begins;
}

std::vector<double> merge_weights(std::span<const double> distances) {
  constexpr double kLargest = 600;  // of an exponent
  double sum = 0;
  for (const double d : distances) sum += std::isfinite(d) ? d : 0;
  const double mean = distances.size() > 1 ? sum / static_cast<double>(distances.size() - 1) : 0;
  std::vector<double> out;
  double all = 0;
  for (const double d : distances) {
    const double x = mean > 0 ? d / mean : 0;
    out.push_back(std::isfinite(d) ? portable::exp(-std::min(x * x / 2, kLargest)) : 0);
    all += out.back();
  }
  for (double& w : out) w /= all;
  return out;
}

Kept keep_by_merging(DumpReader& reader, const HeadMap& heads, const std::map<Asking::Layer, LayerScores>& scores,
                     KeepBy by, const Budget& budget) {
  const std::uint64_t tokens = common_tokens(heads);
  Kept out{by, budget.tokens, {}, {}};
  const Lists sums = add_scores(scores, by);
  for (const auto& [place, alike] : cosines(reader, heads, by, tokens)) {
    Kept::Runs& runs = out.runs[place];
    runs.begins = choose_runs(alike, budget);
    runs.begins.push_back(tokens);
    const std::vector<double>& score = sums.at(place);
    for (std::size_t i = 0; i + 1 < runs.begins.size(); ++i) {
      const auto first = score.begin() + static_cast<std::ptrdiff_t>(runs.begins[i]);
      const auto end = score.begin() + static_cast<std::ptrdiff_t>(runs.begins[i + 1]);
      out.lists[place].push_back(static_cast<std::uint64_t>(std::max_element(first, end) - score.begin()));
    }
  }
  for (const auto& [place, d] : distances(reader, heads, out, tokens)) {
    Kept::Runs& runs = out.runs.at(place);
    for (std::size_t i = 0; i + 1 < runs.begins.size(); ++i) {
      const auto w = merge_weights(std::span(d).subspan(runs.begins[i], runs.begins[i + 1] - runs.begins[i]));
      runs.weights.insert(runs.weights.end(), w.begin(), w.end());
    }
  }
  return out;
}

}  // namespace kvzip::tool
