// SPDX-License-Identifier: Apache-2.0
// The saliency of a dump's tokens as that of a tile's rows.
#pragma once

#include <vector>

#include "formats/kvz/kvz_plan.hpp"
#include "kvzip/saliency.hpp"

namespace kvzip {

/// Tile::saliency of a tile of the group: by head where queries say something of each, else the mean of those of which
/// something is known; empty where there is none.
std::vector<float> tile_saliency(const Saliency& saliency, const PlanGroup& group, TileShape shape);

}  // namespace kvzip
