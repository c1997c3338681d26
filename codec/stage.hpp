// SPDX-License-Identifier: Apache-2.0
// The stage contract: peel. `encode` stores what it needs and leaves in the tile what the later stages must still
// carry; `decode` receives what the later stages rebuilt and completes it.
//
// A new stage is one file in codec/stages with a class and its make function, a line in stages/stages.hpp and a row in
// stage_table.cpp: `class Name final : public Cloned<Name, Stage>`, then fields(), kind(), encode(), decode(), and of
// the rest what it needs. Parameters are plain members. Once a pipeline is resolved nothing changes them, and every
// thread uses the same object. Tiles are in tile.hpp, streams in stream.hpp, numbers as streams in side.hpp.
#pragma once

#include <variant>

#include "codec/fields.hpp"
#include "codec/stream.hpp"
#include "codec/tile.hpp"
#include "kvzip/tables.hpp"

namespace kvzip {

enum class StageKind : std::uint8_t {
  rows,       // takes whole rows out and stores them exactly
  transform,  // replaces the tile; decode inverts
  elements,   // stores some values exactly and leaves a filler
  additive,   // subtracts an approximation; decode adds it back
};

/// What a chained stage keeps of the frames before. Each chain of frames has its own, which one thread at a time uses.
class StageState {
 public:
  virtual ~StageState() = default;
};

/// What goes with one encode beside the tile.
struct EncodeContext {
  StreamWriter& out;
  bool wanted = true;   // false when nothing reads what the stage leaves
  bool finite = false;  // for the stage to set: all that it leaves is finite, which saves a pass over the tile
  const StageState* state = nullptr;  // of a chained stage: what decode made of the frames before
};

/// What goes with one decode beside the tile.
struct DecodeContext {
  StreamReader& in;
  bool blank = false;           // the tile's values are unset and stand for zeros; only where the stage begins()
  StageState* state = nullptr;  // of a chained stage, which takes it past this frame
};

inline constexpr std::string_view kFittedTable = "tensor";
inline constexpr std::string_view kDumpTable = "dump";
/// For a stage that cannot do its work without the table it names.
[[noreturn]] void fail_without_table(std::string_view stage, std::string_view reference);

class Stage : public Configurable {
 public:
  virtual std::unique_ptr<Stage> clone() const = 0;
  virtual StageKind kind() const = 0;
  /// True when a pipeline may end with this stage: what it leaves behind is meant to be dropped.
  virtual bool carries() const { return kind() == StageKind::additive; }
  /// Refuses parameters that contradict each other, with fail(invalid_argument). Called when a pipeline's text is read.
  virtual void check() {}
  /// Fills parameters left to the data ("auto") and refuses, with fail(invalid_argument), what it cannot take. Called
  /// on a copy for each group, before any data is read; the resolved parameters are what the container stores.
  virtual void resolve(const TileContext&) {}
  /// Shape of what encode leaves. Pure.
  virtual TileShape output(const TileContext&, TileShape in) const { return in; }
  /// Multiplications, or what takes as long, that decode needs for a tile whose input has this shape, where there can
  /// be many for each value; from what is declared alone, at most, and as man/kvz.5 says. A reader bounds them by the
  /// size of the file before it decodes.
  virtual double work(const TileContext&, TileShape) const { return 0; }
  /// True when members of a tile are treated by their role.
  virtual bool by_role() const { return false; }
  /// True when encode uses Tile::saliency.
  virtual bool weighs() const { return false; }
  /// The pipeline codes the tile with and without this stage and keeps the smaller.
  virtual bool trial() const { return false; }
  /// True when the stage keeps state along the frames of a group. encode only reads it; decode alone takes it from
  /// frame to frame, and an encoder decodes what it made, so that both sides have the same. stages/carry.cpp is an
  /// example.
  virtual bool chained() const { return false; }
  /// Of a chained stage: the empty state. It stands before the first frame after a restart point, and again after any
  /// frame that the stage had no part in: one that is stored raw, or without the stage (a trial()).
  virtual std::unique_ptr<StageState> begin_chain() const { return nullptr; }
  /// True when encode of a tile with this input leaves nothing to the stages behind it, which then have no part in the
  /// frame.
  virtual bool ends(const TileContext&, TileShape) const { return false; }
  /// True when decode can begin with a blank tile, which it sets, and not only with zeros, to which it adds.
  virtual bool begins() const { return false; }
  /// The table it uses and has not been given (kvzip/tables.hpp): a name or hash, kFittedTable for one fitted to the
  /// group's tensors, or kDumpTable for one of the whole dump; empty when there is none.
  virtual std::string_view lacks_table() const { return {}; }
  /// Gives it the table, which its text calls `reference` from then on. A stage whose table of these nobody made is
  /// given none, and does without.
  // NOLINTNEXTLINE(performance-unnecessary-value-param): overrides keep the pointer
  virtual void use_table(std::shared_ptr<const Table>, std::string_view) {}
  /// A table from rows that stand for all of the group's.
  virtual Table fit_table(const Tile&) const { return {}; }
  virtual void encode(Tile& tile, EncodeContext& to) const = 0;
  /// `tile` has the shape output() gives for `shape`; afterwards it has that shape and every value is set. Streams are
  /// hostile.
  virtual void decode(Tile& tile, TileShape shape, DecodeContext& from) const = 0;
  /// Of a stage whose streams hold parts in the order of their worth: a copy that holds the parts for this share of the
  /// channels, and no more than it did; null for any other stage. stages/nested.cpp is an example.
  virtual std::unique_ptr<Stage> cut_to(double /*share*/) const { return nullptr; }
  /// Its streams as `cut_to(share)` has them, from those of a tile whose input has this shape. Streams are hostile.
  virtual void cut(const TileContext&, TileShape, double /*share*/, StreamReader&, StreamWriter&) const {}
};

/// What stands in the place of all stages where data comes back bit for bit: element bytes to streams and back, no
/// float in between.
class ExactCodec : public Configurable {
 public:
  /// rows x cols elements, `head_dim` columns of which belong together.
  struct Elements {
    DType dtype;
    std::uint32_t rows, cols, head_dim;
  };
  virtual std::unique_ptr<ExactCodec> clone() const = 0;
  /// From now on rows of zeros at the end of a tile take no room.
  virtual void leave_out_padding() = 0;
  virtual void encode(const Elements& shape, ByteView elements, StreamWriter& out) const = 0;
  /// Sets all of `elements`. Streams are hostile.
  virtual void decode(const Elements& shape, StreamReader& in, std::span<std::byte> elements) const = 0;
};

/// The coder at the end of a pipeline: streams to bytes.
class Coder : public Configurable {
 public:
  virtual std::unique_ptr<Coder> clone() const = 0;
  /// `table` receives what is not the symbols themselves (frequency tables); it may stay empty.
  virtual void encode(const Stream& stream, Bytes& table, Bytes& body) const = 0;
  /// Fills data or positions of `stream`, whose type and shape are set. Must use all of both inputs.
  virtual void decode(Stream& stream, ByteView table, ByteView body) const = 0;
};

/// A component that is copied member by member.
template <typename Self, typename Base>
class Cloned : public Base {
 public:
  std::unique_ptr<Base> clone() const final { return std::make_unique<Self>(static_cast<const Self&>(*this)); }
};

template <typename T>
using Factory = std::unique_ptr<T> (*)();

template <typename Make>
struct ComponentRow {
  unsigned id;  // wire id; never reused
  std::string_view name;
  std::string_view since;  // container version
  std::string_view help;
  Make make;
};
using StageRow = ComponentRow<std::variant<Factory<Stage>, Factory<ExactCodec>>>;
using CoderRow = ComponentRow<Factory<Coder>>;
std::span<const StageRow> stage_table();
std::span<const CoderRow> coder_table();

}  // namespace kvzip
