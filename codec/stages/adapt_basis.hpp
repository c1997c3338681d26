// SPDX-License-Identifier: Apache-2.0
// An orthonormal basis that follows the rows it has seen, so that what both sides have decoded needs no basis stored.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace kvzip {

/// Channels stand in the basis as they are until refresh(). All sums go in a fixed order, without fused operations, so
/// that both sides, and all machines, have the same basis. man/kvz.5, stage adapt, is the definition.
class AdaptBasis {
 public:
  /// `noise`: the error to expect in each coefficient, squared; what is below it is not worth turning to.
  AdaptBasis(std::size_t size, float noise);
  std::size_t size() const { return size_; }

  /// coefficients[k] = row . vector k
  void project(const float* row, float* coefficients) const;
  /// row = sum over k of coefficients[k] * vector k
  void combine(const float* coefficients, float* row) const;
  /// Takes count x size rows into account from the next refresh() on, but none whose energy is far above 1 a value.
  void observe(const float* rows, std::size_t count);
  /// A step of orthogonal iteration (Golub and Van Loan, Matrix Computations, 8.2.4) with the covariance of all rows
  /// observed, from the basis as it is. Where numbers leave the finite range the basis stays.
  void refresh();

 private:
  void multiply(const std::vector<float>& by, const std::vector<float>& rows, std::vector<float>& out) const;
  bool orthonormalise(std::vector<float>& vectors) const;

  std::size_t size_, observed_ = 0;
  float noise_;
  std::vector<float> vectors_, transposed_, covariance_;  // size x size; vector k is row k of the first
  std::vector<std::uint32_t> every_;                      // 0, 1, 2, ..
};

}  // namespace kvzip
