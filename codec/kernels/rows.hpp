// SPDX-License-Identifier: Apache-2.0
// Loops over rows of floats that several stages share: extremes and differences.
#pragma once

#include <cstddef>
#include <cstdint>

namespace kvzip::kernels {

/// The largest magnitude; infinite or not a number where a value is.
float largest_magnitude(const float* x, std::size_t n);
bool all_finite(const float* x, std::size_t n);

/// Smallest and largest of n values, starting from *low and *high. No NaN. Which zero wins where 0 and -0 meet is part
/// of the encoder's bytes: the first in the order lane (index mod 16, whole rounds of 16), then index, then the rest.
void min_max(const float* x, std::size_t n, float* low, float* high);
/// The same for each segment s, x[edges[s]] to x[edges[s + 1]].
void min_max_segments(const float* x, const std::uint32_t* edges, std::size_t segments, float* low, float* high);
/// The same, column by column: low[i], high[i] take x[i].
void min_max_columns(const float* x, std::size_t n, float* low, float* high);

/// What is left of x: x[i] -= approximation[i], then 0 where taken[i] is not 0 (taken may be null).
void subtract(const float* approximation, const std::uint8_t* taken, std::size_t n, float* x);

}  // namespace kvzip::kernels
