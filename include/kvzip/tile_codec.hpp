// SPDX-License-Identifier: Apache-2.0
// Keys or values in memory to bytes and back, with no file: needs kvzip::codec only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "kvzip/dtype.hpp"
#include "kvzip/role.hpp"
#include "kvzip/rope.hpp"

namespace kvzip {

/// A tile: the keys or the values of one layer, tokens x channels, row-major. A channel is a (head, dim) pair, the
/// heads one after the other.
struct TileFormat {
  Role role = Role::key;           // key, value or query
  DType dtype = DType::f16;        // a type that is_codable_float(); any whole-byte type for exact pipelines (`planes`)
  std::uint32_t heads = 1;         // 1 to 2^32 - 1, as their product
  std::uint32_t head_dim = 1;      // with `heads`
  std::uint64_t total_tokens = 0;  // of the sequence: a window of the newest tokens is there; 0 = a tile is its end
  Rope rope;                       // of keys, for pipelines that take it out

  std::size_t row_bytes() const { return std::size_t{heads} * head_dim * dtype_unit(dtype); }
};

/// A pipeline that was made to suit tiles of one format. Tiles may have any number of tokens; both sides need the same
/// format, pipeline and place of a tile. Each tile stands by itself: stages that keep state from one to the next
/// (`carry`) begin anew with it. Const functions may run on many threads at once.
class TileCodec {
 public:
  /// `pipeline` as in kvzip-pipeline(7), for example "quant:bits=4:axis=token,rans". What it leaves to the data
  /// ("auto") is settled here. fail(invalid_argument) when the text is not sensible or does not suit tiles of this
  /// format and up to `most_tokens` tokens.
  TileCodec(std::string_view pipeline, const TileFormat& format, std::uint32_t most_tokens = 256);
  ~TileCodec();
  TileCodec(TileCodec&&) noexcept;
  TileCodec& operator=(TileCodec&&) noexcept;

  const TileFormat& format() const;
  /// With every field settled: what whoever decodes without this object needs beside the format.
  std::string pipeline() const;

  /// `elements`: whole rows, little-endian; the first row is token `first_token` of the sequence. The result is never
  /// longer than elements.size() + 1 bytes (tiles of more than 65536 elements: and not shorter than one byte for each
  /// 1024 of them). It says nothing of its own length, format or pipeline, and has no checksum: keep it with all of
  /// these, as a container does. fail(invalid_argument) when there is part of a row or no row, and where what a
  /// window's `end` calls padding is not zeros; fail(limit) above 2^30 elements.
  Bytes encode(ByteView elements, std::uint64_t first_token = 0) const;
  /// Fills `elements`, as large as what was encoded. `coded` may be hostile: fails with corrupt or truncated, and takes
  /// memory in proportion to `elements` only.
  void decode(ByteView coded, std::span<std::byte> elements, std::uint64_t first_token = 0) const;

 private:
  struct Parts;
  std::unique_ptr<const Parts> parts_;
};

}  // namespace kvzip
