// SPDX-License-Identifier: Apache-2.0
// Classes of magnitudes (codec/magnitudes.hpp) through the lanes of `rans`, under one of 16 fixed models: the one for
// the magnitude to expect, which is a running mean of the channel's, times the row's gain.
#pragma once

#include "codec/stream.hpp"
#include "kvzip/io.hpp"

namespace kvzip {

void rans_scaled_encode(const Stream& classes, Bytes& table, Bytes& body);
/// Hostile input; shape, alphabet and gains of `classes` are set.
void rans_scaled_decode(Stream& classes, ByteView table, ByteView body);

}  // namespace kvzip
