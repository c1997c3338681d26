// SPDX-License-Identifier: Apache-2.0
#include "codec/kernels/gram_schmidt.hpp"

#include <algorithm>
#include <cmath>

#include "codec/kernels/multiply.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "codec/kernels/gram_schmidt.cpp"
#include <hwy/foreach_target.h>  // compiles the file once per instruction set
#include <hwy/highway.h>
// Compiled once per instruction set:
#include "codec/kernels/multiply_tile-inl.hpp"
#include "codec/kernels/transpose-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace kvzip::kernels::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

constexpr std::size_t kBlock = 16;  // rows that are removed from the others at once
static_assert(kBlock == kPadding);

/// Sums of a dot product: element i goes to sum i mod kSums, elements behind the last whole kSums to the first.
constexpr std::size_t kSums = 8;
using Doubles = hn::CappedTag<double, kSums>;

/// Products of one row with kRows rows from `b`, `stride` apart.
template <std::size_t kRows>
void dots(const float* a, const float* b, std::size_t stride, std::size_t n, double* out) {
  const Doubles d;
  const hn::Rebind<float, Doubles> f;
  const std::size_t whole = n / kSums * kSums;
  HWY_ALIGN double lane[kRows][kSums];
  for (std::size_t part = 0; part < kSums; part += hn::Lanes(d)) {
    hn::Vec<Doubles> sums[kRows];
#pragma GCC unroll 8
    for (std::size_t r = 0; r < kRows; ++r) sums[r] = hn::Zero(d);
    for (std::size_t i = part; i < whole; i += kSums) {
      const auto x = hn::PromoteTo(d, hn::LoadU(f, a + i));
#pragma GCC unroll 8
      for (std::size_t r = 0; r < kRows; ++r) {
        sums[r] = hn::Add(sums[r], hn::Mul(x, hn::PromoteTo(d, hn::LoadU(f, b + r * stride + i))));
      }
    }
#pragma GCC unroll 8
    for (std::size_t r = 0; r < kRows; ++r) hn::Store(sums[r], d, lane[r] + part);
  }
  for (std::size_t r = 0; r < kRows; ++r) {
    const double* s = lane[r];
    double first = s[0];
    for (std::size_t i = whole; i < n; ++i) first += double{a[i]} * b[r * stride + i];
    out[r] = ((first + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]));
  }
}

/// Takes from kRows rows from `others` what lies along `row`: how much that is comes from their products.
template <std::size_t kRows>
void remove_row(const float* row, std::size_t n, std::size_t stride, float* others, float* along) {
  const TileFloats<16> d;
  double products[kRows];
  dots<kRows>(row, others, stride, n, products);
  for (std::size_t r = 0; r < kRows; ++r) along[r * stride] = static_cast<float>(products[r]);
  for (std::size_t c = 0; c < stride; c += hn::Lanes(d)) {
    const auto x = hn::LoadU(d, row + c);
#pragma GCC unroll 8
    for (std::size_t r = 0; r < kRows; ++r) {
      float* at = others + r * stride + c;
      hn::StoreU(hn::Sub(hn::LoadU(d, at), hn::Mul(hn::Set(d, along[r * stride]), x)), d, at);
    }
  }
}

/// Takes from the `rest` rows after a block what lies along its rows. `l`: where the first of them has the first of the
/// block's.
void remove_block(const float* block, std::size_t rest, std::size_t n, std::size_t stride, float* others, float* l,
                  float* columns) {
  transpose_all({block, stride}, kBlock, stride, columns, kBlock);
  for (std::size_t i = 0; i < rest; i += kTileRows) {
    const std::size_t rows = std::min(kTileRows, rest - i);
    float *some = others + i * stride, *along = l + i * stride;
    multiply_all<16, Into::place>({some, stride}, rows, n, {columns, kBlock}, kBlock, along, stride);
    multiply_all<16, Into::subtract>({along, stride}, rows, kBlock, {block, stride}, stride, some, stride);
  }
}

GramSchmidt Process(float* u, float* l, std::size_t n, float* columns, double* energies) {
  constexpr double kLittle = 0x1p-10;  // of a row's energy
  const std::size_t stride = padded(n);
  const TileFloats<16> d;
  GramSchmidt result = GramSchmidt::good;
  for (std::size_t k = 0; k < n; ++k) dots<1>(u + k * stride, u + k * stride, stride, n, energies + k);
  for (std::size_t begin = 0; begin < n; begin += kBlock) {
    const std::size_t end = std::min(n, begin + kBlock);
    for (std::size_t k = begin; k < end; ++k) {
      float* row = u + k * stride;
      double energy = 0;
      dots<1>(row, row, stride, n, &energy);
      if (!(energy > 1e-30) || !std::isfinite(energy)) return GramSchmidt::failed;
      if (energy < kLittle * energies[k]) result = GramSchmidt::lossy;
      const double length = std::sqrt(energy);
      l[k * stride + k] = static_cast<float>(length);
      const auto factor = hn::Set(d, static_cast<float>(1 / length));
      for (std::size_t c = 0; c < stride; c += hn::Lanes(d)) {
        hn::StoreU(hn::Mul(hn::LoadU(d, row + c), factor), d, row + c);
      }
      for (std::size_t j = k + 1, some = 0; j < end; j += some) {
        float *others = u + j * stride, *along = l + j * stride + k;
        some = end - j >= 4 ? 4 : end - j >= 2 ? 2 : 1;
        if (some == 4) remove_row<4>(row, n, stride, others, along);
        if (some == 2) remove_row<2>(row, n, stride, others, along);
        if (some == 1) remove_row<1>(row, n, stride, others, along);
      }
    }
    if (end < n) {
      remove_block(u + begin * stride, n - end, n, stride, u + end * stride, l + end * stride + begin, columns);
    }
  }
  return result;
}

}  // namespace
}  // namespace kvzip::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace kvzip::kernels {

HWY_EXPORT(Process);

GramSchmidt gram_schmidt(float* u, float* l, std::size_t n, float* columns, double* energies) {
  return HWY_DYNAMIC_DISPATCH(Process)(u, l, n, columns, energies);
}

}  // namespace kvzip::kernels
#endif
