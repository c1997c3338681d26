// SPDX-License-Identifier: Apache-2.0
// Signed integers as symbols for a coder and plain bits beside them. A magnitude's class is its symbol; the sign of
// what is not zero and the place inside a class of several follow as bits.
#pragma once

#include <cstdint>
#include <vector>

#include "codec/buffer.hpp"
#include "codec/magnitude_classes.hpp"
#include "codec/stream.hpp"

namespace kvzip {

/// rows x cols integers of at most kLargestMagnitude either way, as two streams: classes, and bits row by row. Coders
/// expect larger magnitudes where gains are.
void pass_magnitudes(StreamPort& port, std::uint32_t rows, std::uint32_t cols, const RowGains& gains,
                     Buffer<std::int16_t>& values);

}  // namespace kvzip
