// SPDX-License-Identifier: Apache-2.0
// The modified Gram-Schmidt process by blocks of rows (Golub and Van Loan, Matrix Computations, 5.2.8), in the order of
// man/kvz.5, stage adapt, so that every target gives the same numbers.
#pragma once

#include <cstddef>

namespace kvzip::kernels {

/// Rows of padded matrices lie a multiple of this apart; what is behind their columns is zero.
inline constexpr std::size_t kPadding = 16;
constexpr std::size_t padded(std::size_t columns) {
  return (columns + kPadding - 1) / kPadding * kPadding;
}

enum class GramSchmidt { good, lossy, failed };

/// Makes the n rows of u orthonormal and l times them what they were: l is zero above its diagonal, of which only the
/// blocks on and below the diagonal, kPadding wide and high, are set. Both are padded, n x n. It is lossy where little
/// of a row is left when the others are taken out, since rounding errors then weigh; it fails where a row vanishes or
/// is not finite. Scratch: padded(n) * kPadding floats, n doubles.
GramSchmidt gram_schmidt(float* u, float* l, std::size_t n, float* columns, double* energies);

}  // namespace kvzip::kernels
