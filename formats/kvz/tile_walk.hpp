// SPDX-License-Identifier: Apache-2.0
// One walk over the tiles that a plan without chained pipelines cuts a dump into.
#pragma once

#include <any>
#include <functional>
#include <span>
#include <utility>

#include "formats/kvz/kvz_plan.hpp"

namespace kvzip {

struct PlannedTile {
  std::uint64_t frame = 0;
  std::size_t group = 0;  // index into Plan::groups
  TileShape shape;
  ByteView elements;  // in tile order; nothing any more when tiles are merged
};

using TileVisit = std::function<std::any(const PlannedTile& tile)>;
using TileMerge = std::function<void(const PlannedTile& tile, std::any& result)>;
void for_each_tile(DumpReader& reader, const Plan& plan, std::span<const std::uint64_t> frames, const TileVisit& visit,
                   const TileMerge& merge, unsigned threads, const Progress& progress);

/// Reads these frames of a plan for the reader's dump: `visit` makes something of a tile on any of `threads` threads
/// (0 = all), `merge` takes it in the order of `frames`, one at a time. Errors as in for_each_part().
template <typename Result, typename Visit, typename Merge>
void for_each_tile(DumpReader& reader, const Plan& plan, std::span<const std::uint64_t> frames, Visit&& visit,
                   Merge&& merge, unsigned threads, const Progress& progress = {}) {
  for_each_tile(
      reader, plan, frames, [&](const PlannedTile& tile) { return std::any(Result(visit(tile))); },
      [&](const PlannedTile& tile, std::any& result) { merge(tile, std::any_cast<Result&&>(std::move(result))); },
      threads, progress);
}

}  // namespace kvzip
