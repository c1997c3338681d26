// SPDX-License-Identifier: Apache-2.0
// The product of two matrices. Each element of it adds its terms in their order, products and sums rounded apart, so
// that every target gives the same numbers.
#pragma once

#include <cstddef>

namespace kvzip::kernels {

/// Element (i, k) is at data[i * row + k].
struct Rows {
  const float* data;
  std::size_t row;
};
/// out[i * out_row + j] = the sum of a(i, k) * b(k, j) over k = 0, 1, .. below `terms`, from +0 on, for i below m and j
/// below n. Terms with a(i, k) = 0 may be left out: they change nothing where b is finite.
void multiply(Rows a, std::size_t m, std::size_t terms, Rows b, std::size_t n, float* out, std::size_t out_row);
/// The same, added to what is there, from it on.
void multiply_add(Rows a, std::size_t m, std::size_t terms, Rows b, std::size_t n, float* out, std::size_t out_row);

/// Element (r, c) of `from`, rows x cols, becomes (c, r) of `to`, whose rows lie to_row apart.
void transpose(Rows from, std::size_t rows, std::size_t cols, float* to, std::size_t to_row);

}  // namespace kvzip::kernels
