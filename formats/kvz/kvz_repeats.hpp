// SPDX-License-Identifier: Apache-2.0
// Which tokens of a dump are the same: the table of repeats (man/kvz.5, stage adapt).
#pragma once

#include "kvzip/io.hpp"
#include "kvzip/layout.hpp"

namespace kvzip {

/// The table, from the list of token ids or, without one, from the values of the lowest layer, which depend on the
/// token alone: rows that differ by rounding are taken as one token's. Empty where hardly a token comes twice, where
/// it is not known, and for several sequences. `threads`: 0 = all.
Bytes find_repeats(DumpReader& reader, const Recognition& recognition, unsigned threads);

}  // namespace kvzip
