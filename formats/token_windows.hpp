// SPDX-License-Identifier: Apache-2.0
// Rows are not always positions: layers with a sliding window keep only the last ones.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "formats/row_places.hpp"
#include "kvzip/layout.hpp"

namespace kvzip {

/// Per tensor, the position of its first row by shapes alone: in a dump of one sequence, keys and values that are
/// shorter than the longest hold the last positions. 0 for all others, and where layers are there several times, as of
/// several sequences.
std::vector<std::uint64_t> first_positions(const Dump& dump, const Recognition& recognition);

/// One line on what shorter layers were taken for and which lack all of `tokens`, and on layers that are rings, whose
/// rows need not be in the order of time; empty where there are none.
std::string windows_text(const RowPlaces& places, const Recognition& recognition,
                         const std::pair<std::uint64_t, std::uint64_t>& tokens);

}  // namespace kvzip
