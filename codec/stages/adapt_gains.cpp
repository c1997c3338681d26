// SPDX-License-Identifier: Apache-2.0
#include "codec/stages/adapt_gains.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <utility>

#include "codec/kernels/products.hpp"
#include "codec/kernels/rans_lanes.hpp"
#include "codec/magnitude_classes.hpp"
#include "codec/portable_math.hpp"

namespace kvzip {
namespace {

/// The token of a tile of one row has finer steps, since its errors are averaged with few others'.
constexpr std::int8_t kGainAlone = 2;

/// Where tokens look alike everywhere, all rows that are predicted from one inherit its error, and in sums over tokens
/// these errors do not average out.
class RepeatGains {
 public:
  explicit RepeatGains(const RepeatRows& repeats) : rows_(repeats.rows.size()) {
    if (repeats.contexts == 0) return;
    std::map<std::uint32_t, std::vector<std::uint32_t>> rows_of;
    for (std::uint32_t r = 0; r < rows_; ++r) rows_of[repeats.token[r]].push_back(r);
    for (auto& [token, rows] : rows_of) {
      if (rows.size() > 1) alike_.push_back(std::move(rows));
    }
  }

  /// Half octaves; of rows of x, `width` values each that begin `cols` apart.
  std::vector<float> of(const float* x, std::size_t cols, std::size_t width) const {
    // How much of rows is left when the mean of the same token's usual rows before them is taken away.
    constexpr std::size_t kSums = 8;  // side by side, so that no addition waits for the one before it
    double energies[kSums] = {}, lefts[kSums] = {};
    std::vector<double> sum(width);
    std::vector<std::pair<std::uint32_t, std::uint32_t>> firsts;  // rows, and how many usual ones follow
    for (const std::vector<std::uint32_t>& rows : alike_) {
      std::uint32_t before = 0;
      std::fill(sum.begin(), sum.end(), 0.0);
      for (const std::uint32_t r : rows) {
        const float* row = x + std::size_t{r} * cols;
        if (!is_usual(row, width)) continue;
        if (before == 0) firsts.emplace_back(r, 0);
        firsts.back().second = before;
        const double share = before == 0 ? 0 : 1.0 / before;
        for (std::size_t c = 0; c < width; c += kSums) {
          const std::size_t some = std::min(kSums, width - c);
          for (std::size_t i = 0; before != 0 && i < some; ++i) {
            const double value = row[c + i], difference = value - sum[c + i] * share;
            lefts[i] += difference * difference;
            energies[i] += value * value;
          }
          for (std::size_t i = 0; i < some; ++i) sum[c + i] += row[c + i];
        }
        ++before;
      }
    }
    const double energy = std::accumulate(energies, energies + kSums, 0.0);
    const double left = std::accumulate(lefts, lefts + kSums, 0.0);
    const double alike = energy > 0 ? std::max(0.0, 1 - left / energy) : 0;
    std::vector<float> gains(rows_);
    for (const auto& [row, later] : firsts) {
      gains[row] = static_cast<float>(0.5 * portable::log(1 + alike * alike * later) / portable::log(2));
    }
    return gains;
  }

 private:
  std::size_t rows_;
  std::vector<std::vector<std::uint32_t>> alike_;  // rows of one token, where there are several
};

/// That of the heads which have a share of these columns; `edges`: of all heads.
std::vector<float> own_saliency(const Tile& tile, const std::vector<std::uint32_t>& edges, std::size_t first,
                                std::size_t last) {
  const std::size_t heads = tile.saliency_cols();
  if (heads + 1 != edges.size() || edges.back() != tile.shape.cols) return tile.row_saliency();
  const auto begin = static_cast<std::size_t>(std::upper_bound(edges.begin(), edges.end(), first) - edges.begin()) - 1;
  const auto end = static_cast<std::size_t>(std::lower_bound(edges.begin(), edges.end(), last) - edges.begin());
  std::vector<float> own;
  for (std::size_t r = 0; r < tile.shape.rows; ++r) {
    own.push_back(mean_saliency({tile.saliency.data() + r * heads + begin, end - begin}));
  }
  return own;
}

}  // namespace

void pass_adapt_gains(StreamPort& port, TileShape shape, const std::vector<std::uint32_t>& spans, RowGains& gains) {
  constexpr int kGains = 2 * kMostGain + 1;
  if (!port.writes()) gains.spans = {shape.cols};
  if (spans.size() > 1) {
    Stream differ = symbol_stream(StreamLabel::scales, 1, 1, 2);
    if (port.writes()) differ.data.push_back(gains.spans.size() > 1 ? 1 : 0);
    port.pass(differ);
    if (!port.writes() && differ.data[0] != 0) gains.spans = spans;
  }
  const auto count = static_cast<std::uint32_t>(gains.spans.size());
  // The first span's, and how the others differ from the one to the left, in a circle.
  Stream first = symbol_stream(StreamLabel::scales, shape.rows, 1, kGains), others = first;
  others.cols = count - 1;
  for (std::size_t i = 0; i < gains.values.size(); ++i) {
    const bool begins = i % count == 0;
    const int before = begins ? -kMostGain : gains.values[i - 1];
    (begins ? first : others).data.push_back(static_cast<std::uint8_t>((gains.values[i] - before + kGains) % kGains));
  }
  port.pass(first);
  if (count > 1) port.pass(others);
  if (port.writes()) return;
  for (std::size_t r = 0, next = 0; r < shape.rows; ++r) {
    int gain = first.data[r] - kMostGain;
    gains.values.push_back(static_cast<std::int8_t>(gain));
    for (std::uint32_t i = 1; i < count; ++i) {
      gain = (gain + kMostGain + others.data[next++]) % kGains - kMostGain;
      gains.values.push_back(static_cast<std::int8_t>(gain));
    }
  }
}

RowGains AdaptGains::choose(const Tile& tile, const std::vector<float>& x, const RepeatRows& repeats,
                            const std::vector<std::uint32_t>& spans) const {
  const std::size_t rows = tile.shape.rows, cols = tile.shape.cols;
  if (spans.size() > 1 && tile.saliency_cols() < 2) return choose(tile, x, repeats, {tile.shape.cols});
  const std::int8_t alone = rows == 1 ? kGainAlone : 0;
  RowGains gains{std::vector<std::int8_t>(rows * spans.size(), alone), spans};
  if (tile.saliency.empty() && repeats.contexts == 0 && alone == 0) return gains;
  const RepeatGains for_repeats(repeats);
  std::vector<float> all = heads < 1 || spans.size() < 2 ? tile.row_saliency() : std::vector<float>();
  all.resize(rows);
  const std::vector<std::uint32_t> edges = tile.context->head_edges();
  for (std::size_t i = 0, first = 0; i < spans.size(); first = spans[i++]) {
    const std::size_t width = spans[i] - first;
    const std::vector<float> finer = for_repeats.of(x.data() + first, cols, width);
    const std::vector<double> wanted =
        octaves(all, spans.size() < 2 ? all : own_saliency(tile, edges, first, spans[i]));
    for (std::size_t r = 0; r < rows; ++r) {
      const float* row = x.data() + r * cols + first;
      double length = std::sqrt(kernels::dot(row, row, width));
      if (repeats.predicted(r)) length += std::sqrt(kMostEnergy * static_cast<double>(width));
      const double gain = std::floor(2 * wanted[r] + finer[r] + alone + 0.5);
      auto g = static_cast<std::int8_t>(std::clamp<double>(gain, -kMostGain, kMostGain));
      while (g > -kMostGain && length * kernels::rans_gain(g + 1) > step * kLargestMagnitude) --g;
      gains.values[r * spans.size() + i] = g;
    }
  }
  return gains;
}

/// By how much rows' steps are finer for the saliency of all heads and of their own.
std::vector<double> AdaptGains::octaves(const std::vector<float>& all, const std::vector<float>& own) const {
  std::vector<double> s(all.size());
  double mean = 0;
  for (std::size_t r = 0; r < s.size(); ++r) mean += s[r] = all[r] + heads * (own[r] - all[r]);
  mean /= static_cast<double>(std::max<std::size_t>(1, s.size()));
  for (double& x : s) x = (gamma * (x - mean) + level * mean) / 2;
  return s;
}

}  // namespace kvzip
