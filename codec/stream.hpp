// SPDX-License-Identifier: Apache-2.0
// Typed streams: what stages hand to the coder. Type, shape and alphabet of a stream are computed on both sides from
// the stage's parameters and the tile's shape; a frame stores none of them.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "codec/buffer.hpp"
#include "codec/tile.hpp"
#include "kvzip/components.hpp"
#include "kvzip/dtype.hpp"

namespace kvzip {

enum class StreamType : std::uint8_t {
  symbols,    // rows x cols symbols below `alphabet`, one byte each
  elements,   // rows x cols numbers of `width` bytes, little-endian
  positions,  // rows ascending lists of cols numbers below `alphabet` each (alphabet up to 2^32)
  bytes,      // free bytes; the only type whose length a frame states (rows = 1)
};

/// By how many half octaves values were multiplied before they were rounded: for each row a number for each span of
/// columns. No values: by none.
struct RowGains {
  std::vector<std::int8_t> values;
  std::vector<std::uint32_t> spans;  // where each one ends, ascending, the last at the width

  bool operator==(const RowGains&) const = default;
  /// Of the rows from `row` on.
  const std::int8_t* row(std::size_t row) const { return values.data() + row * spans.size(); }
};

/// Made by the functions below, without data.
struct Stream {
  StreamLabel label = StreamLabel::codes;
  StreamType type = StreamType::bytes;
  std::uint64_t alphabet = 0;
  std::uint32_t rows = 0, cols = 0;
  std::uint32_t width = 1;     // elements: bytes of one
  std::uint32_t head_dim = 0;  // symbols, elements: columns that belong together; 0 = all
  Buffer<std::uint8_t> data;   // symbols, elements, bytes
  std::vector<std::uint32_t> positions;
  bool magnitudes = false;  // symbols: classes of magnitudes (codec/magnitudes.hpp)
  RowGains gains{};         // of magnitudes

  std::size_t count() const { return std::size_t{rows} * cols; }
  /// Bytes of `data` that the shape of symbols or elements asks for.
  std::size_t size() const { return count() * width; }
  /// Makes room for symbols or elements, which are then to be set.
  void allocate() { data.resize(size()); }
};

inline Stream symbol_stream(StreamLabel label, std::uint32_t rows, std::uint32_t cols, std::uint64_t alphabet,
                            std::uint32_t head_dim = 0) {
  return {label, StreamType::symbols, alphabet, rows, cols, 1, head_dim, {}, {}};
}
inline Stream element_stream(StreamLabel label, std::uint32_t rows, std::uint32_t cols, std::size_t width,
                             std::uint32_t head_dim = 0) {
  return {label, StreamType::elements, 0, rows, cols, static_cast<std::uint32_t>(width), head_dim, {}, {}};
}
inline Stream position_stream(std::uint32_t lists, std::uint32_t length, std::uint64_t below) {
  return {StreamLabel::positions, StreamType::positions, below, lists, length, 1, 0, {}, {}};
}
inline Stream byte_stream(StreamLabel label) {
  return {label, StreamType::bytes, 0, 1, 0, 1, 0, {}, {}};
}
/// A symbol for each value of a tile of that shape.
inline Stream code_stream(const TileContext& context, TileShape shape, std::uint64_t alphabet) {
  return symbol_stream(StreamLabel::codes, shape.rows, shape.cols, alphabet, context.head_dim);
}

/// Either end of a stage's streams. A stage that names its streams once, in a function that encode and decode both
/// call, has the same ones on both sides: a writer takes the data of each, a reader fills it in.
class StreamPort {
 public:
  virtual ~StreamPort() = default;
  virtual bool writes() const = 0;
  /// Type and shape are set; a writer takes the data away, a reader sets it.
  virtual void pass(Stream& stream) = 0;
};

/// Collects the streams of a stage.
class StreamWriter final : public StreamPort {
 public:
  explicit StreamWriter(std::vector<Stream>& out) : out_(out) {}
  bool writes() const override { return true; }
  void pass(Stream& stream) override { put(std::move(stream)); }
  void put(Stream stream) { out_.push_back(std::move(stream)); }

 private:
  std::vector<Stream>& out_;
};

/// Gives a stage its streams in the order it wrote them. The stage fills in type and shape, the reader the data.
class StreamReader : public StreamPort {
 public:
  bool writes() const final { return false; }
  void pass(Stream& stream) final { get(stream); }
  virtual void get(Stream& stream) = 0;
};

}  // namespace kvzip
