// SPDX-License-Identifier: Apache-2.0
// Which axis counts tokens: what the values say where shapes and names leave it open, or could mislead.
#pragma once

#include "kvzip/io.hpp"
#include "kvzip/layout.hpp"

namespace kvzip {

/// A channel of a head has a mean over tokens of its own; over heads or channels there is none in common, so that
/// averaging along any axis but that of tokens leaves nearly nothing. Takes, of the readings that recognise() left open
/// and of its readings by convention that have rivals, the one whose tokens lie where means keep far the most of the
/// energy of keys. Values follow their keys; where they may be turned otherwise than keys they are asked themselves, or
/// left open. Looks at up to 64 entries of each axis, of 16 layers of keys and 16 of values that are asked, for each
/// set of readings in question, and not at a reader that reads once.
void settle_by_means(DumpReader& reader, Recognition& recognition);

}  // namespace kvzip
