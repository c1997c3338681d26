// SPDX-License-Identifier: Apache-2.0
// An orthonormal basis that follows the rows it has seen, so that what both sides have decoded needs no basis stored.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "codec/buffer.hpp"

namespace kvzip {

inline constexpr double kMostEnergy = 16;  // a value, where 1 is usual
/// False of rows with more, sinks and the like: they would turn a basis to themselves, so nothing learns from them.
bool is_usual(const float* row, std::size_t size);
/// marks[r] = is_usual(row r, size), of rows in one piece.
void mark_usual(const float* rows, std::size_t size, std::span<std::uint8_t> marks);

/// Channels stand in the basis as they are until refresh(). All sums go in a fixed order, without fused operations, so
/// that both sides, and all machines, have the same basis. man/kvz.5, stage adapt, is the definition.
class AdaptBasis {
 public:
  /// `noise`: the error to expect in each coefficient, squared; what is below it is not worth turning to.
  AdaptBasis(std::size_t size, float noise) : size_(size), noise_(noise) {}

  /// coefficients[r][k] = row r . vector k, for `count` rows, `stride` apart, and coefficients in one piece.
  void project(const float* rows, std::size_t stride, std::size_t count, float* coefficients);
  /// row r = sum over k of coefficients[r][k] * vector k, in one piece.
  void combine(const float* coefficients, std::size_t count, float* rows) const;
  /// Takes the usual ones among rows of coefficients, a mark each, into account from the next refresh() on.
  void observe(const float* coefficients, std::span<const std::uint8_t> usual);
  /// A step of orthogonal iteration (Golub and Van Loan, Matrix Computations, 8.2.4) with the covariance of all rows
  /// observed, among the vectors whose coefficients stand out of the noise. Where numbers leave the finite range the
  /// basis stays.
  void refresh();

 private:
  bool factorise(std::size_t n);
  void turn_vectors(const std::vector<std::size_t>& which);
  void take_covariance(const std::vector<std::size_t>& which, float noise);
  void put_covariance(const std::vector<std::size_t>& which, float noise);
  void lower_product(const float* a, std::size_t n, bool triangular);

  /// Room that is kept between calls.
  struct Work {
    Buffer<float> l, r;  // the factors of a refresh, padded
    Buffer<float> before, rows, columns, product;
    Buffer<double> energies;
  };

  std::size_t size_, observed_ = 0;
  float noise_;
  // size x size, empty until used. Vector k is row k of the first; of the covariance of coefficients the lower half.
  Buffer<float> vectors_, transposed_, covariance_;
  Work work_;
};

}  // namespace kvzip
