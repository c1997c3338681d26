// SPDX-License-Identifier: Apache-2.0
// Where the rows of keys and values stand in the sequence, by all that a dump says and holds.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "formats/mlx_rows.hpp"
#include "kvzip/io.hpp"
#include "kvzip/layout.hpp"

namespace kvzip {

struct RowPlaces {
  std::vector<std::uint64_t> first;  // per tensor: the position of its first row; 0 for what is no keys or values
  std::vector<std::uint64_t> rows;   // per tensor: rows that hold a token; those behind them are padding
  std::vector<std::uint64_t> turn;   // per tensor: the row of the first position, where those before it follow the last
  std::uint64_t end = 0;             // one past the last position
  bool stated = false;               // positions are the dump's own, and not taken from the lengths of layers
  std::vector<MlxRows> mlx;          // where it is a prompt cache of MLX
  /// What must be taken with all of its tokens from position `least` on, or not at all.
  struct Whole {
    std::vector<std::string> tensors;
    std::string what, why;
    std::uint64_t least = 0;
  };
  std::vector<Whole> whole;
  std::set<std::string> mixed;  // tensors whose rows are not in the order of positions, or need not be
};

/// - Prompt caches of MLX say it of each cache (formats/mlx_rows.hpp).
/// - Files of llama.cpp have a list of positions for each of their caches; the least of them counts as 0.
/// - Else, in a dump of one sequence, layers that are shorter than the longest hold the last positions, before the
///   padding of the longest, if it has some. Where layers are there several times, each has its own rows from 0 on.
RowPlaces row_places(DumpReader& reader, const Recognition& recognition);

/// The rows of this tensor are not in the order of positions, or need not be, as those of a ring. Where `turn` is not
/// 0, it says their order.
bool is_mixed(const RowPlaces& places, const std::string& tensor);

}  // namespace kvzip
