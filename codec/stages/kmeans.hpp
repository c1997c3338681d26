// SPDX-License-Identifier: Apache-2.0
// Weighted k-means of numbers in [-1, 1]. In one dimension clusters are intervals, so that dynamic programming finds
// the best ones (Wang and Song 2011), here among those that end at the edges of 2048 cells; the means are exact.
#pragma once

#include <array>
#include <cstddef>
#include <vector>

#include "codec/tile.hpp"

namespace kvzip {

/// What a token counts in a codebook: its saliency, within a factor of 32 of the median token's, since sinks alone are
/// not to choose all levels; 1 where it is unknown.
std::vector<double> token_weights(const Tile& tile);

class KMeans {
 public:
  void add(float z, double weight);
  /// `count` ascending means; fewer different ones where there are fewer values.
  std::vector<float> levels(std::size_t count) const;

 private:
  static constexpr std::size_t kCells = 2048;
  struct Cell {
    double weight = 0, sum = 0;
  };
  std::array<Cell, kCells> cells_{};
};

}  // namespace kvzip
