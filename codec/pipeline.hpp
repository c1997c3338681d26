// SPDX-License-Identifier: Apache-2.0
// A chain of stages with a coder at its end: text to chain, elements to frame and back.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "codec/stage.hpp"

namespace kvzip {

class FrameStreams;
class StageClock;

/// Payload bytes of a frame by stream label, and whether it is stored raw.
struct FrameSizes {
  bool raw = false;
  std::array<std::uint64_t, kStreamLabels> bytes{};
};

/// What the chained stages of one pipeline keep between two frames: made by Pipeline::begin_chain(), for one thread at
/// a time.
struct Chain {
  std::vector<std::unique_ptr<StageState>> states;  // by stage; none where it is not chained
};

class Pipeline {
 public:
  /// `stage:name=value:...,stage,...,coder`. Refuses unknown names, bad values and senseless chains.
  static Pipeline parse(std::string_view text);
  /// Canonical text: fields that differ from their defaults, or with `all` every field, as containers store it.
  std::string text(bool all = false) const;
  /// An exact codec stands in the place of the stages.
  bool exact() const { return exact_.part != nullptr; }
  /// True when a stage treats members of a tile by their role.
  bool by_role() const;
  /// As parsed: the same for a sequence that ends with padding, which takes no room: stages behind a window, where they
  /// have none and one more may stand, an exact codec told so.
  Pipeline before_padding() const;
  /// True when a stage uses Tile::saliency.
  bool weighs() const;
  /// True when a stage keeps state from frame to frame.
  bool chained() const;

  /// Fits the pipeline to a group: fills "auto" fields and refuses what does not suit. `shape` is the group's largest
  /// tile.
  void resolve(const TileContext& context, TileShape shape);

  /// Finds a table by name or hash, and what the container calls it; without a table, none was found.
  struct FoundTable {
    std::shared_ptr<const Table> table;
    std::string reference;
  };
  using FindTable = std::function<FoundTable(std::string_view reference)>;
  /// Names or hashes of the tables that its stages have not been given, kFittedTable among them, by stage; else empty.
  std::vector<std::string> lacking_tables() const;
  /// Gives them to the stages: those found, and none to a stage whose fitted table, NAME.STAGE, is not found.
  void use_tables(const FindTable& find, std::string_view name);
  /// What a tile is for fit_tables().
  struct SampleTile {
    TileShape shape;
    Buffer<std::byte> elements;
  };
  /// Tables NAME.STAGE for stages that want them fitted, from tiles that stand for all of a group.
  std::vector<Table> fit_tables(const TileContext& context, std::span<const SampleTile> tiles,
                                std::string_view name) const;

  /// What Stage::work() says of all its stages, for a frame.
  double work(const TileContext& context, TileShape shape) const;

  /// The state at a restart point.
  Chain begin_chain() const;
  /// `elements`: shape.rows x shape.cols elements of context.source. Returns a frame's payload. Thread-safe; a clock is
  /// one thread's own. `chain` is where the frames before have left it; without one, this is the first after a restart
  /// point. It stays: decode() takes it past the frame, on both sides. `saliency` becomes Tile::saliency.
  Bytes encode(const TileContext& context, TileShape shape, ByteView elements, const Chain* chain = nullptr,
               StageClock* clock = nullptr, std::span<const float> saliency = {}) const;
  /// Fails with corrupt or truncated on any payload that does not fit; context and shape must match the encoder's.
  /// After that the chain can go no further.
  void decode(const TileContext& context, TileShape shape, ByteView payload, std::span<std::byte> elements,
              Chain* chain = nullptr, StageClock* clock = nullptr) const;
  /// A pipeline whose last stage is cut to this share (Stage::cut_to); none where it cannot be.
  std::optional<Pipeline> cut_to(double share) const;
  /// A frame's payload as `cut_to(share)` has it. Fails as decode() does, though not on all damage that it finds.
  Bytes cut(const TileContext& context, TileShape shape, ByteView payload, double share) const;
  /// A frame's payload that holds the elements as they are, whatever the pipeline.
  static Bytes raw(ByteView elements);
  /// Sizes by label, from the payload's directory alone: `front` is at least the payload's first kDirectoryBytes.
  static FrameSizes sizes(ByteView front, std::uint64_t payload_bytes);
  static constexpr std::size_t kDirectoryBytes = 4096;

  struct Ids {
    std::vector<unsigned> stages;
    unsigned coder;
  };
  /// Wire ids (an exact codec's as the only stage's), and the largest `since` among them and the fields in use.
  Ids ids() const;
  std::string_view since() const;
  unsigned since_minor() const;  // its number behind the point

 private:
  /// Copies of a pipeline share their components, which nothing changes.
  template <typename T, typename Row>
  struct Link {
    const Row* row = nullptr;
    std::shared_ptr<const T> part;
    const T* operator->() const { return part.get(); }
  };
  std::vector<Link<Stage, StageRow>> stages_;  // empty where exact_ stands
  Link<ExactCodec, StageRow> exact_;
  Link<Coder, CoderRow> coder_;

  void add_stage(const StageRow& row, std::span<const std::string_view> fields);
  void check_order() const;
  static std::string table_name(std::string_view group, std::size_t stage);
  std::vector<const StageRow*> stage_rows() const;
  Bytes encode_exact(const TileContext&, TileShape, ByteView elements, StageClock*) const;
  Bytes encode_floats(const TileContext&, TileShape, ByteView elements, std::span<const float> saliency, const Chain&,
                      StageClock*) const;
  void decode_floats(const TileContext&, TileShape, std::uint64_t left_out, FrameStreams&,
                     std::span<std::byte> elements, Chain&, StageClock*) const;
};

}  // namespace kvzip
