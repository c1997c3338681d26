// SPDX-License-Identifier: Apache-2.0
// Quantised prompt caches of MLX: arrays of codes, scales and biases, or the values that they stand for.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "kvzip/io.hpp"

namespace kvzip {

/// QuantizedKVCache as mlx_lm/models/cache.py has it: N.0.0, N.0.1 and N.0.2 are codes, scales and biases of keys,
/// N.1.0 and so on those of values; in a CacheList the same behind the name of the cache (formats/mlx_cache.hpp). Shown
/// is an ordinary cache, N.0 and N.1 of the scales' type and class KVCache, as the same version of mlx-lm would have
/// saved it. Where arrays do not agree with each other and with the numbers that the cache states, it stays as it is.
/// So does what can be read but once.
std::unique_ptr<DumpReader> mlx_values(std::unique_ptr<DumpReader> reader);

/// Lines on the quantised caches of a reader, or of one beneath values: which are decoded, which are not and why.
std::vector<std::string> mlx_quantised_lines(DumpReader& reader);

}  // namespace kvzip
