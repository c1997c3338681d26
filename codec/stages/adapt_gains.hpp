// SPDX-License-Identifier: Apache-2.0
// The gains of `adapt`, by how many half octaves steps are finer than the tile's: their streams and their choice.
#pragma once

#include <cstdint>
#include <vector>

#include "codec/stages/adapt_repeats.hpp"
#include "codec/stream.hpp"
#include "codec/tile.hpp"

namespace kvzip {

inline constexpr int kMostGain = 31;  // either way

/// Through the port, either way; `spans`: the columns that may have gains of their own.
void pass_adapt_gains(StreamPort& port, TileShape shape, const std::vector<std::uint32_t>& spans, RowGains& gains);

struct AdaptGains {
  double step, gamma, level, heads;  // the stage's fields

  /// Of each row in each span of columns: after the saliency of the tile and of the span's heads, finer where other
  /// rows are predicted from it, and no finer than what the largest code reaches. One span of all columns where nothing
  /// is known of heads. `x`: the tile's values in its root mean square.
  RowGains choose(const Tile& tile, const std::vector<float>& x, const RepeatRows& repeats,
                  const std::vector<std::uint32_t>& spans) const;

 private:
  std::vector<double> octaves(const std::vector<float>& all, const std::vector<float>& own) const;
};

}  // namespace kvzip
