// SPDX-License-Identifier: Apache-2.0
// The stage contract: peel. `encode` stores what it needs and leaves in the tile what the later stages must still
// carry; `decode` receives what the later stages rebuilt and completes it.
#pragma once

#include "codec/fields.hpp"
#include "codec/stream.hpp"
#include "codec/tile.hpp"

namespace kvzip {

enum class StageKind : std::uint8_t {
  rows,       // takes whole rows out and stores them exactly
  transform,  // replaces the tile; decode inverts
  elements,   // stores some values exactly and leaves a filler
  additive,   // subtracts an approximation; decode adds it back
  exact,      // works on element bytes, never on floats; stands alone
};

class Stage : public Configurable {
 public:
  virtual StageKind kind() const = 0;
  /// True when a pipeline may end with this stage: what it leaves behind is meant to be dropped.
  virtual bool carries() const { return kind() == StageKind::additive; }
  /// Refuses parameters that contradict each other, with fail(invalid_argument). Called when a pipeline's text is read.
  virtual void check() {}
  /// Fills parameters left to the data ("auto") and refuses, with fail(invalid_argument), what it cannot take. Called
  /// once per group before any data is read; the resolved parameters are what the container stores.
  virtual void resolve(const TileContext&) {}
  /// Shape of what encode leaves. Pure.
  virtual TileShape output(const TileContext&, TileShape in) const { return in; }
  /// The pipeline codes the tile with and without this stage and keeps the smaller.
  virtual bool trial() const { return false; }
  /// True when decode can begin with a blank tile, which it sets, and not only with zeros, to which it adds.
  virtual bool begins() const { return false; }
  virtual void encode(Tile& tile, StreamWriter& out) const = 0;
  /// `tile` has the shape output() gives for `in`; afterwards it has the shape `in` and every value is set. Streams
  /// are hostile.
  virtual void decode(Tile& tile, TileShape in, StreamReader& streams) const = 0;
};

/// The coder at the end of a pipeline: streams to bytes.
class Coder : public Configurable {
 public:
  /// `table` receives what is not the symbols themselves (frequency tables); it may stay empty.
  virtual void encode(const Stream& stream, Bytes& table, Bytes& body) const = 0;
  /// Fills data or positions of `stream`, whose type and shape are set. Must use all of both inputs.
  virtual void decode(Stream& stream, ByteView table, ByteView body) const = 0;
};

template <typename T>
struct ComponentRow {
  unsigned id;  // wire id; never reused
  std::string_view name;
  std::string_view since;  // container version
  std::string_view help;
  std::unique_ptr<T> (*make)();
};
std::span<const ComponentRow<Stage>> stage_table();
std::span<const ComponentRow<Coder>> coder_table();

}  // namespace kvzip
