// SPDX-License-Identifier: Apache-2.0
// The saliency of a dump's tokens as that of a tile's rows.
#pragma once

#include <vector>

#include "formats/kvz/kvz_plan.hpp"
#include "kvzip/saliency.hpp"

namespace kvzip {

/// Tile::saliency of a tile of the group: over several heads or members log2 of the mean of 2^s over all heads of which
/// something is known; empty where nothing is.
std::vector<float> tile_saliency(const Saliency& saliency, const PlanGroup& group, TileShape shape);

}  // namespace kvzip
