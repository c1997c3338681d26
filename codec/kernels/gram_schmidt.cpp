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
HWY_INLINE HWY_ATTR void dots(const float* a, const float* b, std::size_t stride, std::size_t n, double* out) {
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
  hn::Vec<TileFloats<16>> weights[kRows];
  dots<kRows>(row, others, stride, n, products);
#pragma GCC unroll 8
  for (std::size_t r = 0; r < kRows; ++r) {
    along[r * stride] = static_cast<float>(products[r]);
    weights[r] = hn::Set(d, static_cast<float>(products[r]));
  }
  for (std::size_t c = 0; c < stride; c += hn::Lanes(d)) {
    const auto x = hn::LoadU(d, row + c);
#pragma GCC unroll 8
    for (std::size_t r = 0; r < kRows; ++r) {
      float* at = others + r * stride + c;
      hn::StoreU(hn::Sub(hn::LoadU(d, at), hn::Mul(weights[r], x)), d, at);
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

double energy_of(const float* row, std::size_t n) {
  double energy;
  dots<1>(row, row, 0, n, &energy);
  return energy;
}

void scale_row(float* row, std::size_t stride, float by) {
  const TileFloats<16> d;
  const auto factor = hn::Set(d, by);
  for (std::size_t c = 0; c < stride; c += hn::Lanes(d)) hn::StoreU(hn::Mul(hn::LoadU(d, row + c), factor), d, row + c);
}

/// The rows of a block become orthonormal among themselves. `l`: where the first of them has itself.
GramSchmidt process_block(float* rows, std::size_t count, std::size_t n, std::size_t stride, const double* before,
                          float* l) {
  constexpr double kLittle = 0x1p-10;  // of a row's energy
  GramSchmidt result = GramSchmidt::good;
  double energy = energy_of(rows, n);
  for (std::size_t k = 0; k < count; ++k) {
    if (!(energy > 1e-30) || !std::isfinite(energy)) return GramSchmidt::failed;
    if (energy < kLittle * before[k]) result = GramSchmidt::lossy;
    float* row = rows + k * stride;
    const double length = std::sqrt(energy);
    l[k * stride + k] = static_cast<float>(length);
    std::fill(l + k * stride + k + 1, l + k * stride + kBlock, 0.0f);
    scale_row(row, stride, static_cast<float>(1 / length));
    for (std::size_t j = k + 1, some = 1; j < count; j += some) {
      float *others = rows + j * stride, *along = l + j * stride + k;
      // The next row alone: all that follows waits for its length, which is found while others are at work.
      some = j == k + 1 ? 1 : count - j >= 4 ? 4 : count - j >= 2 ? 2 : 1;
      if (some == 4) remove_row<4>(row, n, stride, others, along);
      if (some == 2) remove_row<2>(row, n, stride, others, along);
      if (some == 1) remove_row<1>(row, n, stride, others, along);
      if (j == k + 1) energy = energy_of(others, n);
    }
  }
  return result;
}

GramSchmidt Process(float* u, float* l, std::size_t n, float* columns, double* energies) {
  const std::size_t stride = padded(n);
  GramSchmidt result = GramSchmidt::good;
  for (std::size_t k = 0; k < n; ++k) energies[k] = energy_of(u + k * stride, n);
  for (std::size_t begin = 0; begin < n; begin += kBlock) {
    const std::size_t end = std::min(n, begin + kBlock);
    float* block = u + begin * stride;
    const GramSchmidt one = process_block(block, end - begin, n, stride, energies + begin, l + begin * stride + begin);
    if (one == GramSchmidt::failed) return one;
    if (one == GramSchmidt::lossy) result = one;
    if (end < n) {
      remove_block(block, n - end, n, stride, u + end * stride, l + end * stride + begin, columns);
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
