// SPDX-License-Identifier: Apache-2.0
// The Walsh-Hadamard transform of short rows; see codec/stages/rotate.cpp.
#pragma once

#include <cstddef>

namespace kvzip::kernels {

/// x[i] *= by[i].
void multiply(const float* by, std::size_t n, float* x);

/// x[i] *= factor; then for h = 1, 2, 4 .. n / 2, for every i whose bit h is 0: x[i], x[i + h] = x[i] + x[i + h],
/// x[i] - x[i + h]. n is a power of two. Sums in this order, so that every target gives the same.
void hadamard(std::size_t n, float factor, float* x);

}  // namespace kvzip::kernels
