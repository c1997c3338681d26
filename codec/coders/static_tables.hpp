// SPDX-License-Identifier: Apache-2.0
// Static frequency tables, measured on the tile and stored compactly.
#pragma once

#include "codec/stream.hpp"

namespace kvzip {

/// What shares a table: the tile (one layer's K or V in a chunk), a head of it, or a channel.
enum class TablePer : std::uint8_t { channel, head, tile };

/// False when the tables would be too short for their number to have been earned: such symbols are stored plainly.
bool static_encode(const Stream& symbols, TablePer per, Bytes& table, Bytes& body);
void static_decode(Stream& symbols, TablePer per, ByteView table, ByteView body);

}  // namespace kvzip
