// SPDX-License-Identifier: Apache-2.0
// Adaptive modelling of symbol matrices: no table is stored, both sides learn alike, in integers only.
#pragma once

#include "codec/stream.hpp"

namespace kvzip {

/// What a symbol's distribution is conditioned on: its channel, the previous token's symbol (shared by the channels of
/// a head), or the average of both.
enum class Context : std::uint8_t { both, channel, previous };

void adaptive_encode(const Stream& symbols, Context context, Bytes& body);
void adaptive_decode(Stream& symbols, Context context, ByteView body);

/// Lists of positions as a mask, each place with its own adaptive probability.
void adaptive_encode_positions(const Stream& positions, Bytes& body);
void adaptive_decode_positions(Stream& positions, ByteView body);

}  // namespace kvzip
