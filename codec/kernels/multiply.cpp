// SPDX-License-Identifier: Apache-2.0
#include "codec/kernels/multiply.hpp"

#include <algorithm>
#include <cstdint>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "codec/kernels/multiply.cpp"
#include <hwy/foreach_target.h>  // compiles the file once per instruction set
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace kvzip::kernels::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

template <std::size_t kLanes>
using Floats = hn::CappedTag<float, kLanes>;

constexpr std::size_t kMostTerms = 256;

/// kRows rows of a, and the terms that are not zero in all of them.
template <std::size_t kRows>
struct Weights {
  Strided a;
  std::size_t count = 0;
  std::uint32_t term[kMostTerms + 16];

  HWY_ATTR Weights(Strided from, std::size_t terms) : a(from) {
    std::size_t k = 0;
    if (a.column == 1) k = find_vectors(terms);
    for (; k < terms; ++k) {
      bool any = false;
      for (std::size_t r = 0; r < kRows; ++r) any |= a.data[r * a.row + k * a.column] != 0;
      term[count] = static_cast<std::uint32_t>(k);
      count += any ? 1 : 0;
    }
  }
  /// As many terms as whole vectors hold.
  HWY_ATTR std::size_t find_vectors(std::size_t terms) {
    const Floats<16> f;
    const hn::RebindToUnsigned<Floats<16>> d;
    const std::size_t lanes = hn::Lanes(f);
    std::size_t k = 0;
    for (; k + lanes <= terms; k += lanes) {
      auto any = hn::Ne(hn::LoadU(f, a.data + k), hn::Zero(f));
      for (std::size_t r = 1; r < kRows; ++r) {
        any = hn::Or(any, hn::Ne(hn::LoadU(f, a.data + r * a.row + k), hn::Zero(f)));
      }
      const auto index = hn::Iota(d, static_cast<std::uint32_t>(k));
      count += hn::CompressBlendedStore(index, hn::RebindMask(d, any), d, term + count);
    }
    return k;
  }
  const float* of(std::size_t i) const { return a.data + term[i] * a.column; }
};

/// kRows times kVectors vectors of sums stay in registers while the terms go by; a row of b that was read serves all
/// rows. Returns how many columns that were.
template <std::size_t kRows, std::size_t kVectors, std::size_t kLanes>
inline HWY_ATTR std::size_t add_columns(const Weights<kRows>& w, const float* b, std::size_t b_row, float* out,
                                        std::size_t out_row) {
  const Floats<kLanes> d;
  const std::size_t lanes = hn::Lanes(d);
  hn::Vec<Floats<kLanes>> sums[kRows][kVectors], x[kVectors];
#pragma GCC unroll 8
  for (std::size_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (std::size_t v = 0; v < kVectors; ++v) sums[r][v] = hn::LoadU(d, out + r * out_row + v * lanes);
  }
  for (std::size_t i = 0; i < w.count; ++i) {
    const float *row = b + w.term[i] * b_row, *weights = w.of(i);
#pragma GCC unroll 8
    for (std::size_t v = 0; v < kVectors; ++v) x[v] = hn::LoadU(d, row + v * lanes);
#pragma GCC unroll 8
    for (std::size_t r = 0; r < kRows; ++r) {
      const auto weight = hn::Set(d, weights[r * w.a.row]);
#pragma GCC unroll 8
      for (std::size_t v = 0; v < kVectors; ++v) sums[r][v] = hn::Add(sums[r][v], hn::Mul(weight, x[v]));
    }
  }
#pragma GCC unroll 8
  for (std::size_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (std::size_t v = 0; v < kVectors; ++v) hn::StoreU(sums[r][v], d, out + r * out_row + v * lanes);
  }
  return kVectors * lanes;
}

template <std::size_t kRows>
void add_rows(Strided a, std::size_t terms, const float* b, std::size_t b_row, std::size_t n, float* out,
              std::size_t out_row) {
  constexpr std::size_t kVectors = HWY_TARGET <= HWY_AVX3 ? 4 : 2;  // as many as there are registers for
  const std::size_t lanes = hn::Lanes(Floats<16>());
  const Weights<kRows> w(a, terms);
  std::size_t j = 0;
  while (j + kVectors * lanes <= n) j += add_columns<kRows, kVectors, 16>(w, b + j, b_row, out + j, out_row);
  while (j + lanes <= n) j += add_columns<kRows, 1, 16>(w, b + j, b_row, out + j, out_row);
  while (j < n) j += add_columns<kRows, 1, 1>(w, b + j, b_row, out + j, out_row);
}

void MultiplyAdd(Strided a, std::size_t m, std::size_t terms, const float* b, std::size_t b_row, std::size_t n,
                 float* out, std::size_t out_row) {
  for (std::size_t k = 0; k < terms; k += kMostTerms) {
    const std::size_t count = std::min(kMostTerms, terms - k);
    std::size_t i = 0;
    const auto block = [&] { return Strided{a.data + i * a.row + k * a.column, a.row, a.column}; };
    for (; i + 4 <= m; i += 4) add_rows<4>(block(), count, b + k * b_row, b_row, n, out + i * out_row, out_row);
    for (; i < m; ++i) add_rows<1>(block(), count, b + k * b_row, b_row, n, out + i * out_row, out_row);
  }
}

}  // namespace kvzip::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace kvzip::kernels {

HWY_EXPORT(MultiplyAdd);

void multiply_add(Strided a, std::size_t m, std::size_t terms, const float* b, std::size_t b_row, std::size_t n,
                  float* out, std::size_t out_row) {
  HWY_DYNAMIC_DISPATCH(MultiplyAdd)(a, m, terms, b, b_row, n, out, out_row);
}

}  // namespace kvzip::kernels
#endif
