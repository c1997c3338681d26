// SPDX-License-Identifier: Apache-2.0
// Where the rows of an MLX prompt cache stand in the sequence, and what its scalars say after tokens were cut
// (mlx_lm/models/cache.py, `state`, and to 0.31 `meta_state`, of each class).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kvzip/io.hpp"

namespace kvzip {

/// One cache of the list: a layer's, or one of several that a layer has.
struct MlxRows {
  /// A number that counts tokens: an array of one axis or none, or an attribute of the file.
  struct Count {
    enum class Is : std::uint8_t { end, start };  // one past the last position, or the first
    std::string name;
    bool attribute = false;
    Is is = Is::end;
    std::vector<std::int64_t> values;
  };

  std::string prefix;  // its arrays are prefix + ".0" (keys), ".1" (values) and so on
  std::string type;
  std::vector<std::size_t> tensors;  // all of them
  /// Keys and values: rows [0, used) are the positions from `first` on. Nothing where it cannot be told.
  std::optional<std::uint64_t> first;
  std::uint64_t used = 0;
  /// Why a part of its tokens cannot be taken; empty if it can.
  std::string whole;
  std::uint64_t least = 0;    // where `whole` is said: the first position that it needs
  bool mixed = false;         // rows are not in the order of positions
  std::uint64_t turn = 0;     // but from this one on and then from the first on, where that is so
  std::vector<Count> counts;  // that follow when tokens are cut
};

/// Empty for any other dump, and for one that can be read but once. Values that make no sense are as if not there.
std::vector<MlxRows> mlx_rows(DumpReader& reader);

/// One past the last position of any of them.
std::uint64_t mlx_end(const std::vector<MlxRows>& caches);

/// `reader` holds positions [tokens.first, tokens.second) of the dump that `caches` tell of: its counts say so.
std::unique_ptr<DumpReader> with_mlx_counts(std::unique_ptr<DumpReader> reader, const std::vector<MlxRows>& caches,
                                            std::pair<std::uint64_t, std::uint64_t> tokens);

}  // namespace kvzip
