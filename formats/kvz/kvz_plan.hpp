// SPDX-License-Identifier: Apache-2.0
// The plan of a container: which slices of which tensors stand side by side in a tile group, and how a group falls into
// frames. It is made from rules when writing, and read from the header when reading.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "codec/pipeline.hpp"
#include "formats/kvz/kvz_records.hpp"
#include "formats/parts.hpp"
#include "kvzip/io.hpp"
#include "kvzip/layout.hpp"
#include "kvzip/metrics.hpp"
#include "kvzip/rules.hpp"

namespace kvzip {

/// One tensor's share of a tile group: an index for each axis outside the tile, kFree for the tile's own axes.
struct PlanSlot {
  static constexpr std::uint64_t kFree = ~std::uint64_t{0};
  std::size_t tensor = 0;
  std::vector<std::uint64_t> fixed;       // one per axis
  std::uint32_t heads = 0, head_dim = 0;  // of its channels, in a group whose heads differ in width; else 0
  Axes axes{};                            // the tensor's; set by finish_plan()
};

struct PlanGroup {
  std::size_t pipeline = 0;     // index into Plan::pipelines
  bool tiled = false;           // tokens x channels; otherwise one tensor passed through in runs of elements
  std::vector<PlanSlot> slots;  // channels of the tile from left to right; one slot when not tiled
  TileContext context;          // heads and head_dim of 0: the slots have their own
  std::uint64_t chunk = 0;      // tokens per frame, or bytes per frame when not tiled
  std::uint64_t restart = 0;    // frames from one restart point to the next; 0 where no stage is chained
  // Derived by finish():
  std::uint64_t rows = 0;  // tokens
  std::uint64_t first_frame = 0, frames = 0;
  std::uint64_t first_part = 0, parts = 0;
  std::optional<ContiguousSplit> split;  // not tiled: the boxes of consecutive elements that are its frames

  /// Frames of a part: what is coded, read and decoded together. All up to the next restart point, else one.
  std::uint64_t frames_of_part() const {
    return std::clamp<std::uint64_t>(frames, 1, std::max<std::uint64_t>(restart, 1));
  }
};

struct Plan {
  std::vector<Pipeline> pipelines;
  std::vector<PlanGroup> groups;
  std::uint64_t frames = 0, parts = 0;

  /// The least that a reader must know.
  PreludeInfo needs() const;
  /// Its number; searched for.
  std::size_t group_of(std::uint64_t frame) const;
  /// The slices of a part, in the order of the group's slots; and its group. Where no stage is chained parts are
  /// frames.
  Part part(const Dump& dump, std::uint64_t index) const;
  /// The group of a part that part() made; fail(invalid_argument) when that cannot be.
  const PlanGroup& group(const Part& part) const;
  /// The first frame of a part, and the one after its last.
  std::pair<std::uint64_t, std::uint64_t> frames_of(const Part& part) const;
  /// Shape of a frame's matrix: tokens x channels, or elements x 1.
  TileShape shape(const Dump& dump, const PlanGroup& group, std::uint64_t frame) const;
  /// The same of all frames of a part, one above the other.
  TileShape shape(const Dump& dump, const Part& part) const;
  /// Work to decode frames `first` to `last` - 1 of a group (Stage::work), and the bytes they decode to.
  struct Cost {
    double work = 0, decoded = 0;
  };
  Cost cost(const Dump& dump, const PlanGroup& group, std::uint64_t first, std::uint64_t last) const;
};

inline constexpr std::uint64_t kDefaultChunk = 256;                  // tokens
inline constexpr std::uint64_t kDefaultRestart = 16;                 // frames
inline constexpr std::uint64_t kPassChunk = std::uint64_t{1} << 20;  // bytes of a pass-through frame

/// Checks that groups cover every element once and fit their tensors, fits pipelines to them and fills what is derived.
/// fail(corrupt) or fail(invalid_argument) names the tensor.
void finish_plan(Plan& plan, const Dump& dump, const Recognition& recognition);

/// A plan from rules. Without tables, pipelines that ask for some are left without. `used_tokens`: KvzOptions.
struct KvzTables;
Plan make_plan(const Dump& dump, const Recognition& recognition, const RuleSet& rules,
               std::optional<std::uint64_t> chunk_tokens, const KvzTables* tables = nullptr,
               std::span<const std::uint64_t> used_tokens = {});

/// Parts [first, last) of a group that may hold elements of the slice.
std::pair<std::uint64_t, std::uint64_t> parts_touching(const PlanGroup& group, const Dump& dump, const Slice& slice);

/// Elements of a part's slices to tile order (tokens x channels, slots side by side), and back.
Buffer<std::byte> gather_tile(const Plan& plan, const Dump& dump, const Part& part);
void scatter_tile(const Plan& plan, const Dump& dump, ByteView tile, Part& part);

/// Errors of a decoded tile of keys, values or both: of its keys, then of its values.
using KeyValueErrors = std::array<Distortion, 2>;
KeyValueErrors tile_errors(const TileContext& context, TileShape shape, ByteView original, ByteView decoded);

}  // namespace kvzip
