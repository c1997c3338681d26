// SPDX-License-Identifier: Apache-2.0
#include "codec/kernels/weighted_rows.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "codec/kernels/weighted_rows.cpp"
#include <hwy/foreach_target.h>  // compiles the file once per instruction set
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace kvzip::kernels::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::CappedTag<float, 16>;

/// kVectors vectors of sums stay in registers while the rows go by.
template <std::size_t kVectors>
inline HWY_ATTR void add_columns(const WeightedRows& w, std::size_t j, float* out) {
  const Floats d;
  const std::size_t lanes = hn::Lanes(d);
  hn::Vec<Floats> sums[kVectors];
#pragma GCC unroll 8
  for (std::size_t v = 0; v < kVectors; ++v) sums[v] = hn::LoadU(d, out + j + v * lanes);
  for (std::size_t i = 0; i < w.count; ++i) {
    const auto weight = hn::Set(d, w.weights[i]);
    const float* row = w.rows + w.index[i] * w.stride + j;
#pragma GCC unroll 8
    for (std::size_t v = 0; v < kVectors; ++v) {
      sums[v] = hn::Add(sums[v], hn::Mul(weight, hn::LoadU(d, row + v * lanes)));
    }
  }
#pragma GCC unroll 8
  for (std::size_t v = 0; v < kVectors; ++v) hn::StoreU(sums[v], d, out + j + v * lanes);
}

void AddWeightedRows(const WeightedRows& w, std::size_t n, float* out) {
  const std::size_t lanes = hn::Lanes(Floats());
  std::size_t j = 0;
  for (; j + 4 * lanes <= n; j += 4 * lanes) add_columns<4>(w, j, out);
  for (; j + lanes <= n; j += lanes) add_columns<1>(w, j, out);
  for (; j < n; ++j) {
    float sum = out[j];
    for (std::size_t i = 0; i < w.count; ++i) sum += w.weights[i] * w.rows[w.index[i] * w.stride + j];
    out[j] = sum;
  }
}

}  // namespace kvzip::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace kvzip::kernels {

HWY_EXPORT(AddWeightedRows);

void add_weighted_rows(const WeightedRows& w, std::size_t n, float* out) {
  HWY_DYNAMIC_DISPATCH(AddWeightedRows)(w, n, out);
}

}  // namespace kvzip::kernels
#endif
