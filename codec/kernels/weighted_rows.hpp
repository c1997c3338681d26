// SPDX-License-Identifier: Apache-2.0
// Sums of rows, the one loop of every product with a small square matrix. Each output adds its terms in the order of
// the rows, whatever the width of the vectors, so that every target gives the same numbers.
#pragma once

#include <cstddef>
#include <cstdint>

namespace kvzip::kernels {

/// Some rows of a matrix, with a weight each: row i is at rows + index[i] * stride.
struct WeightedRows {
  const float* weights;
  const std::uint32_t* index;
  std::size_t count;
  const float* rows;
  std::size_t stride;
};
/// out[j] += sum over i of weights[i] * row i [j], for j below n.
void add_weighted_rows(const WeightedRows& w, std::size_t n, float* out);

}  // namespace kvzip::kernels
