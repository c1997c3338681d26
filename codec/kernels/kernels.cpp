// SPDX-License-Identifier: Apache-2.0
#include "codec/kernels/kernels.hpp"

#include <algorithm>

namespace kvzip::kernels {

double dot(const float* a, const float* b, std::size_t n) {
  constexpr std::size_t kLanes = 8;
  double lane[kLanes] = {};
  std::size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (std::size_t j = 0; j < kLanes; ++j) lane[j] += double{a[i + j]} * b[i + j];
  }
  for (; i < n; ++i) lane[0] += double{a[i]} * b[i];
  return ((lane[0] + lane[1]) + (lane[2] + lane[3])) + ((lane[4] + lane[5]) + (lane[6] + lane[7]));
}

void add_multiple(const float* x, std::size_t n, float factor, float* y) {
  for (std::size_t i = 0; i < n; ++i) y[i] += factor * x[i];
}

void block_times(const Block& e, const float* p, std::size_t rank, float* q) {
  constexpr std::size_t kLanes = 16;
  for (std::size_t t = 0; t < e.rows; ++t) {
    const float* row = e.data + t * e.stride;
    for (std::size_t k = 0; k < rank; ++k) {
      const float* vector = p + k * e.cols;
      float lane[kLanes] = {};
      std::size_t c = 0;
      for (; c + kLanes <= e.cols; c += kLanes) {
        for (std::size_t j = 0; j < kLanes; ++j) lane[j] += row[c + j] * vector[c + j];
      }
      for (; c < e.cols; ++c) lane[0] += row[c] * vector[c];
      for (std::size_t half = kLanes / 2; half > 0; half /= 2) {
        for (std::size_t j = 0; j < half; ++j) lane[j] += lane[j + half];
      }
      q[k * e.rows + t] = lane[0];
    }
  }
}

void transposed_block_times(const Block& e, const float* q, std::size_t rank, float* p) {
  std::fill(p, p + rank * e.cols, 0.0f);
  constexpr std::size_t kRows = 4;  // one load and store of the sums serves four rows
  std::size_t t = 0;
  for (; t + kRows <= e.rows; t += kRows) {
    const float* __restrict x0 = e.data + t * e.stride;
    const float* __restrict x1 = x0 + e.stride;
    const float* __restrict x2 = x1 + e.stride;
    const float* __restrict x3 = x2 + e.stride;
    for (std::size_t k = 0; k < rank; ++k) {
      const float* a = q + k * e.rows + t;
      const float a0 = a[0], a1 = a[1], a2 = a[2], a3 = a[3];
      float* __restrict sum = p + k * e.cols;
      for (std::size_t c = 0; c < e.cols; ++c) sum[c] += ((a0 * x0[c] + a1 * x1[c]) + a2 * x2[c]) + a3 * x3[c];
    }
  }
  for (; t < e.rows; ++t) {
    for (std::size_t k = 0; k < rank; ++k)
      add_multiple(e.data + t * e.stride, e.cols, q[k * e.rows + t], p + k * e.cols);
  }
}

}  // namespace kvzip::kernels
