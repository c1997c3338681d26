// SPDX-License-Identifier: Apache-2.0
// The Karhunen-Loeve basis of a part of a tile, and its coefficients.
#pragma once

#include <cstddef>
#include <vector>

namespace kvzip {

/// `rows` rows of `cols` values, `stride` apart. What is analysed is (x - mean) * factor; the factor keeps squares
/// inside float's range.
struct KltPart {
  const float* x = nullptr;
  std::size_t rows = 0, cols = 0, stride = 0;
  const float* mean = nullptr;
  float factor = 1;
};

/// Orthonormal eigenvectors of the covariance, largest eigenvalue first, of each the entry of largest magnitude
/// positive (the first of equal ones): `count` vectors, each in one piece.
std::vector<float> klt_basis(const KltPart& part, std::size_t count);
/// D = (x - mean) * factor * V: rows x count, row-major.
std::vector<float> klt_coefficients(const KltPart& part, const std::vector<float>& basis, std::size_t count);

}  // namespace kvzip
