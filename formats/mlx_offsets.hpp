// SPDX-License-Identifier: Apache-2.0
// How many rows of an MLX prompt cache count, after some were left out.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>

#include "kvzip/io.hpp"

namespace kvzip {

/// `reader` holds tokens [tokens.first, tokens.second) of a dump. Where that is a prompt cache of MLX (from 0.32, whose
/// buffers are longer than what is used), the offset of each layer of class KVCache, array N.2, says how many of its
/// rows are left. Any other dump is given back.
std::unique_ptr<DumpReader> with_mlx_offsets(std::unique_ptr<DumpReader> reader,
                                             std::pair<std::uint64_t, std::uint64_t> tokens);

}  // namespace kvzip
