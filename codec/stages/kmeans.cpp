// SPDX-License-Identifier: Apache-2.0
#include "codec/stages/kmeans.hpp"

#include <algorithm>
#include <cstdint>

#include "codec/portable_math.hpp"

namespace kvzip {
namespace {

/// Clusters of cells: what squared errors lose to a cluster of the cells i to j - 1 is its sum squared over its weight.
class Clusters {
 public:
  Clusters(std::vector<double> weight, std::vector<double> sum) : weight_(std::move(weight)), sum_(std::move(sum)) {}

  double gain(std::size_t i, std::size_t j) const {
    const double w = weight_[j] - weight_[i], s = sum_[j] - sum_[i];
    return w > 0 ? s * s / w : 0;
  }
  /// Limited to the cells, so that means ascend.
  float mean(std::size_t i, std::size_t j, float none) const {
    const double w = weight_[j] - weight_[i], cells = static_cast<double>(weight_.size() - 1);
    if (!(w > 0)) return none;
    const double low = 2 * static_cast<double>(i) / cells - 1, high = 2 * static_cast<double>(j) / cells - 1;
    return static_cast<float>(std::clamp((sum_[j] - sum_[i]) / w, low, high));
  }

  /// best[j]: the most that one cluster more than in `before` gains in the first j cells, for j from `low` to `high`;
  /// starts[j]: where the last of them begins, which ascends with j.
  void extend(const std::vector<double>& before, std::size_t low, std::size_t high, std::size_t from, std::size_t to,
              std::vector<double>& best, std::vector<std::uint16_t>& starts) const {
    const std::size_t j = (low + high) / 2;
    best[j] = -1;
    for (std::size_t i = from; i <= std::min(j, to); ++i) {
      const double g = before[i] + gain(i, j);
      if (g > best[j]) best[j] = g, starts[j] = static_cast<std::uint16_t>(i);
    }
    if (j > low) extend(before, low, j - 1, from, starts[j], best, starts);
    if (j < high) extend(before, j + 1, high, starts[j], to, best, starts);
  }

 private:
  std::vector<double> weight_, sum_;  // of the first n cells
};

}  // namespace

std::vector<double> token_weights(const Tile& tile) {
  constexpr double kMostBits = 5, kLn2 = 0x1.62e42fefa39efp-1;
  std::vector<double> weights(tile.shape.rows, 1.0);
  const std::vector<float> saliency = tile.row_saliency();
  if (saliency.empty()) return weights;
  std::vector<float> sorted = saliency;
  const auto median = sorted.begin() + static_cast<std::ptrdiff_t>(sorted.size() / 2);
  std::nth_element(sorted.begin(), median, sorted.end());
  for (std::size_t r = 0; r < weights.size(); ++r) {
    weights[r] = portable::exp(kLn2 * std::clamp(double{saliency[r]} - *median, -kMostBits, kMostBits));
  }
  return weights;
}

void KMeans::add(float z, double weight) {
  const float place = (z + 1) * (static_cast<float>(kCells) / 2);
  Cell& cell = cells_[std::min(static_cast<std::size_t>(std::max(place, 0.0f)), kCells - 1)];
  cell.weight += weight;
  cell.sum += weight * double{z};
}

std::vector<float> KMeans::levels(std::size_t count) const {
  std::vector<double> weight(kCells + 1), sum(kCells + 1);
  for (std::size_t i = 0; i < kCells; ++i) {
    weight[i + 1] = weight[i] + cells_[i].weight;
    sum[i + 1] = sum[i] + cells_[i].sum;
  }
  const Clusters clusters(std::move(weight), std::move(sum));
  std::vector<double> best(kCells + 1), before;
  std::vector<std::vector<std::uint16_t>> starts(count, std::vector<std::uint16_t>(kCells + 1));
  for (std::size_t j = 0; j <= kCells; ++j) best[j] = clusters.gain(0, j);
  for (std::size_t k = 1; k < count; ++k) {
    before = best;
    clusters.extend(before, 0, kCells, 0, kCells, best, starts[k]);
  }
  std::vector<std::size_t> edges(count + 1, kCells);
  for (std::size_t k = count; k-- > 0;) edges[k] = k == 0 ? 0 : starts[k][edges[k + 1]];
  std::vector<float> means(count);
  for (std::size_t k = 0; k < count; ++k) {
    means[k] = clusters.mean(edges[k], edges[k + 1], k == 0 ? -1.0f : means[k - 1]);
  }
  return means;
}

}  // namespace kvzip
