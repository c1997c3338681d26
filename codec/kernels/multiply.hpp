// SPDX-License-Identifier: Apache-2.0
// The product of two matrices. Each element of it adds its terms in their order, products and sums rounded apart, so
// that every target gives the same numbers.
#pragma once

#include <cstddef>

namespace kvzip::kernels {

/// Element (i, k) is at data[i * row + k * column].
struct Strided {
  const float* data;
  std::size_t row, column;
};
/// out[i * out_row + j] += a(i, k) * b[k * b_row + j] for k = 0, 1, .. below `terms`, for i below m and j below n.
/// Terms with a(i, k) = 0 may be left out: they change nothing where b is finite.
void multiply_add(Strided a, std::size_t m, std::size_t terms, const float* b, std::size_t b_row, std::size_t n,
                  float* out, std::size_t out_row);

}  // namespace kvzip::kernels
