// SPDX-License-Identifier: Apache-2.0
// Few numbers without a model: each as its distance from the smallest, in as many bits as the largest distance needs.
#pragma once

#include "codec/stream.hpp"

namespace kvzip {

/// Elements of 1, 2 or 4 bytes, taken as signed magnitudes, so that floats of one sign and size lie close together.
/// False, and `body` as it was, where that takes no fewer bytes than the elements themselves.
bool range_encode(const Stream& elements, Bytes& body);
void range_decode(Stream& elements, ByteView body);

}  // namespace kvzip
