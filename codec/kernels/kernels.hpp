// SPDX-License-Identifier: Apache-2.0
// Pure loops over float rows: no allocation, no exception, no I/O. Each is written so that lanes are independent, which
// lets every compiler vectorise it without changing a result.
#pragma once

#include <cstddef>
#include <cstdint>

#include "codec/kernels/rows.hpp"

namespace kvzip::kernels {

double dot(const float* a, const float* b, std::size_t n);
/// y[i] += factor * x[i]
void add_multiple(const float* x, std::size_t n, float factor, float* y);

/// rows x cols floats, `stride` apart.
struct Block {
  const float* data;
  std::size_t rows, cols, stride;
};
/// q = E p and p = E' q; vector k of a factor starts at k * cols (p) or k * rows (q).
void block_times(const Block& e, const float* p, std::size_t rank, float* q);
void transposed_block_times(const Block& e, const float* q, std::size_t rank, float* p);

}  // namespace kvzip::kernels
