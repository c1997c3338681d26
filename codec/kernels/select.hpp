// SPDX-License-Identifier: Apache-2.0
// Passes that find the few extreme values of many vectors: bounds from a sample, then every place beyond them.
#pragma once

#include <cstddef>
#include <cstdint>

namespace kvzip::kernels {

/// The most lanes any target works with.
inline constexpr std::size_t kMostLanes = 16;

/// Of each column of a sample of rows x cols floats, the `which`-th smallest and the `which`-th largest value, counted
/// from 1 and at most `rows`. `kept` has room for 2 * which * kMostLanes floats. No NaN.
void column_extremes(const float* sample, std::size_t rows, std::size_t cols, std::size_t which, float* kept,
                     float* low, float* high);

/// Ascending i with x[i] <= low[i] or x[i] >= high[i]; returns how many. `at` has room for n.
std::size_t places_beyond(const float* x, std::size_t n, const float* low, const float* high, std::uint32_t* at);
/// The same with one pair of bounds for all.
std::size_t places_beyond(const float* x, std::size_t n, float low, float high, std::uint32_t* at);

/// sums[i] += x[i]
void add_to_columns(const float* x, std::size_t n, double* sums);
double sum(const float* x, std::size_t n);

}  // namespace kvzip::kernels
