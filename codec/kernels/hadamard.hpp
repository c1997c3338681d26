// SPDX-License-Identifier: Apache-2.0
// The Walsh-Hadamard transform of short rows; see codec/stages/rotate.cpp.
#pragma once

#include <cstddef>

namespace kvzip::kernels {

/// x[i] *= factor; then for h = 1, 2, 4 .. n / 2, for every i whose bit h is 0: x[i], x[i + h] = x[i] + x[i + h],
/// x[i] - x[i + h]. n is a power of two. Sums in this order, so that every target gives the same.
void hadamard(std::size_t n, float factor, float* x);

/// Vectors of `dim` floats, and the signs of each round.
struct Rotation {
  std::size_t rounds, dim, width;  // width: the largest power of two that is not above dim
  float factor;
  const float* signs;  // rounds x dim
};
/// Of each of `count` vectors, in every round: x[i] *= signs[i]; then hadamard() of the first `width` floats, and of
/// the last where that is not all of them.
void rotate(const Rotation& by, std::size_t count, float* x);
/// The same backwards.
void rotate_back(const Rotation& by, std::size_t count, float* x);

}  // namespace kvzip::kernels
