// SPDX-License-Identifier: Apache-2.0
// Which quantised caches of an MLX prompt cache can be read as values, and from which arrays.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "formats/mlx_cache.hpp"
#include "kvzip/io.hpp"

namespace kvzip {

/// Indexes of the arrays of keys, or of values. The words of a row are one string of bits from the lowest of the first
/// byte on, code i from bit i * bits on, and it stands for scale * code + bias of its group (mlx.core.quantize, mode
/// "affine").
struct MlxCodes {
  std::size_t packed = 0, scales = 0, biases = 0;
  unsigned bits = 0;
  std::uint64_t group = 0;
};

inline constexpr std::string_view kMlxPlain = "KVCache";

/// What is done with the quantised caches of a dump.
struct MlxPlan {
  std::map<std::size_t, MlxCodes> values;                           // by the index of the packed array
  std::map<std::size_t, std::size_t> dropped;                       // arrays that values stand for, and which ones do
  std::set<std::size_t> classes;                                    // arrays of code points that are to say kMlxPlain
  std::vector<MlxPart> decoded;                                     // what of
  std::map<std::pair<unsigned, std::uint64_t>, std::size_t> forms;  // caches by bits and group
  std::map<std::string, std::size_t> kept;                          // caches that stay, by why
  bool scalars = false;
};

/// Reads the scalars of quantised caches. Nothing for other dumps.
MlxPlan plan_mlx(DumpReader& reader);

}  // namespace kvzip
