// SPDX-License-Identifier: Apache-2.0
// Typed streams: what stages hand to the coder. Type, shape and alphabet of a stream are computed on both sides from
// the stage's parameters and the tile's shape; a frame stores none of them.
#pragma once

#include <cstdint>
#include <vector>

#include "codec/buffer.hpp"
#include "kvzip/components.hpp"
#include "kvzip/dtype.hpp"

namespace kvzip {

enum class StreamType : std::uint8_t {
  symbols,    // rows x cols symbols below `alphabet`, one byte each
  elements,   // rows x cols numbers of `width` bytes, little-endian
  positions,  // rows ascending lists of cols numbers below `alphabet` each (alphabet up to 2^32)
  bytes,      // free bytes; the only type whose length a frame states (rows = 1)
};

struct Stream {
  StreamLabel label = StreamLabel::codes;
  StreamType type = StreamType::bytes;
  std::uint64_t alphabet = 0;
  std::uint32_t rows = 0, cols = 0;
  std::uint32_t width = 1;     // elements: bytes of one
  std::uint32_t head_dim = 0;  // symbols, elements: columns that belong together; 0 = all
  Buffer<std::uint8_t> data;   // symbols, elements, bytes
  std::vector<std::uint32_t> positions;

  std::size_t count() const { return std::size_t{rows} * cols; }
};

/// Collects the streams of a stage.
class StreamWriter {
 public:
  explicit StreamWriter(std::vector<Stream>& out) : out_(out) {}
  void put(Stream stream) { out_.push_back(std::move(stream)); }

 private:
  std::vector<Stream>& out_;
};

/// Gives a stage its streams in the order it wrote them. The stage fills in type and shape, the reader the data.
class StreamReader {
 public:
  virtual ~StreamReader() = default;
  virtual void get(Stream& stream) = 0;
};

}  // namespace kvzip
