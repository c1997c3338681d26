// SPDX-License-Identifier: Apache-2.0
#include "formats/kvz/tile_walk.hpp"

#include "formats/walk.hpp"

namespace kvzip {

void for_each_tile(DumpReader& reader, const Plan& plan, std::span<const std::uint64_t> frames, const TileVisit& visit,
                   const TileMerge& merge, unsigned threads, const Progress& progress) {
  const Dump& dump = reader.dump();
  const auto tile_of = [&](const Part& part) {
    return PlannedTile{part.index, part.group, plan.shape(dump, part), {}};
  };
  const PartList parts{frames.size(), [&](std::uint64_t index) { return plan.part(dump, frames[index]); }};
  const auto visit_part = [&](Part& part) {
    PlannedTile tile = tile_of(part);
    const Buffer<std::byte> elements = gather_tile(plan, dump, part);
    tile.elements = elements;
    part.result = visit(tile);
  };
  for_each_part(
      reader, parts, visit_part, [&](Part& part) { merge(tile_of(part), part.result); }, threads, progress);
}

}  // namespace kvzip
