// SPDX-License-Identifier: Apache-2.0
// The quantisers of least squared error for a normal variable with mean 0 and variance 1 (Lloyd 1957; Max 1960, table
// I), of 2 to 32 levels.
#pragma once

#include <cstddef>
#include <vector>

namespace kvzip {

inline constexpr unsigned kMostCodebookBits = 5;
/// The 2^bits levels, ascending; level i is minus level 2^bits - 1 - i.
std::vector<float> lloyd_max_levels(unsigned bits);

}  // namespace kvzip
