// SPDX-License-Identifier: Apache-2.0
#include "codec/kernels/multiply.hpp"

#include <algorithm>
#include <cstdint>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "codec/kernels/multiply.cpp"
#include <hwy/foreach_target.h>  // compiles the file once per instruction set
#include <hwy/highway.h>
// Compiled once per instruction set:
#include "codec/kernels/multiply_tile-inl.hpp"
#include "codec/kernels/transpose-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace kvzip::kernels::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

constexpr std::size_t kMostTerms = 512;

/// How many of n are not zero.
std::size_t count_terms(const float* a, std::size_t n) {
  const TileFloats<16> d;
  std::size_t count = 0, k = 0;
  for (; k + hn::Lanes(d) <= n; k += hn::Lanes(d)) count += hn::CountTrue(d, hn::Ne(hn::LoadU(d, a + k), hn::Zero(d)));
  for (; k < n; ++k) count += a[k] != 0 ? 1 : 0;
  return count;
}

/// Which of n they are.
std::size_t find_terms(const float* a, std::size_t n, std::uint32_t* term) {
  const TileFloats<16> f;
  const hn::RebindToUnsigned<TileFloats<16>> d;
  std::size_t count = 0, k = 0;
  for (; k + hn::Lanes(f) <= n; k += hn::Lanes(f)) {
    const auto any = hn::RebindMask(d, hn::Ne(hn::LoadU(f, a + k), hn::Zero(f)));
    // Not a compressing store, which some machines take hundreds of cycles for.
    hn::StoreU(hn::Compress(hn::Iota(d, static_cast<std::uint32_t>(k)), any), d, term + count);
    count += hn::CountTrue(d, any);
  }
  for (; k < n; ++k) {
    term[count] = static_cast<std::uint32_t>(k);
    count += a[k] != 0 ? 1 : 0;
  }
  return count;
}

/// The terms of one row for kVectors vectors of columns.
template <std::size_t kVectors, std::size_t kLanes, Into kInto>
HWY_INLINE HWY_ATTR void add_terms(const float* a, const std::uint32_t* term, std::size_t count, Rows b, float* out) {
  const TileFloats<kLanes> d;
  const std::size_t lanes = hn::Lanes(d);
  hn::Vec<TileFloats<kLanes>> sums[kVectors];
#pragma GCC unroll 8
  for (std::size_t v = 0; v < kVectors; ++v) {
    sums[v] = kInto == Into::place ? hn::Zero(d) : hn::LoadU(d, out + v * lanes);
  }
  for (std::size_t i = 0; i < count; ++i) {
    const auto weight = hn::Set(d, a[term[i]]);
    const float* row = b.data + term[i] * b.row;
#pragma GCC unroll 8
    for (std::size_t v = 0; v < kVectors; ++v) {
      sums[v] = hn::Add(sums[v], hn::Mul(weight, hn::LoadU(d, row + v * lanes)));
    }
  }
#pragma GCC unroll 8
  for (std::size_t v = 0; v < kVectors; ++v) hn::StoreU(sums[v], d, out + v * lanes);
}

/// A row of which many terms are zero.
template <Into kInto>
void add_sparse_row(const float* a, std::size_t terms, Rows b, std::size_t n, float* out) {
  const std::size_t lanes = hn::Lanes(TileFloats<16>());
  std::uint32_t term[kMostTerms + 16];
  const std::size_t count = find_terms(a, terms, term);
  std::size_t j = 0;
  const auto columns = [&] { return Rows{b.data + j, b.row}; };
  for (; j + 4 * lanes <= n; j += 4 * lanes) add_terms<4, 16, kInto>(a, term, count, columns(), out + j);
  for (; j + lanes <= n; j += lanes) add_terms<1, 16, kInto>(a, term, count, columns(), out + j);
  for (; j < n; ++j) add_terms<1, 1, kInto>(a, term, count, columns(), out + j);
}

template <Into kInto>
void add_dense_rows(Rows a, std::size_t m, std::size_t terms, Rows b, std::size_t n, float* out, std::size_t out_row) {
  const std::size_t whole = n - n % hn::Lanes(TileFloats<16>());
  multiply_all<16, kInto>(a, m, terms, b, whole, out, out_row);
  multiply_all<1, kInto>(a, m, terms, {b.data + whole, b.row}, n - whole, out + whole, out_row);
}

/// A tile of rows reads b once for all of them but takes every term; row by row, zeros cost nothing.
template <Into kInto>
void add_product(Rows a, std::size_t m, std::size_t terms, Rows b, std::size_t n, float* out, std::size_t out_row) {
  for (std::size_t i = 0; i < m; i += kTileRows) {
    const std::size_t rows = std::min(kTileRows, m - i);
    const Rows some{a.data + i * a.row, a.row};
    std::size_t count = 0;
    for (std::size_t r = 0; r < rows; ++r) count += count_terms(some.data + r * a.row, terms);
    if (5 * count > 2 * rows * terms) {
      add_dense_rows<kInto>(some, rows, terms, b, n, out + i * out_row, out_row);
      continue;
    }
    for (std::size_t r = 0; r < rows; ++r) {
      add_sparse_row<kInto>(some.data + r * a.row, terms, b, n, out + (i + r) * out_row);
    }
  }
}

void MultiplyAdd(Rows a, std::size_t m, std::size_t terms, Rows b, std::size_t n, float* out, std::size_t out_row) {
  for (std::size_t k = 0; k < terms; k += kMostTerms) {
    add_product<Into::add>({a.data + k, a.row}, m, std::min(kMostTerms, terms - k), {b.data + k * b.row, b.row}, n, out,
                           out_row);
  }
}

void Multiply(Rows a, std::size_t m, std::size_t terms, Rows b, std::size_t n, float* out, std::size_t out_row) {
  const std::size_t first = std::min(kMostTerms, terms);
  add_product<Into::place>(a, m, first, b, n, out, out_row);
  MultiplyAdd({a.data + first, a.row}, m, terms - first, {b.data + first * b.row, b.row}, n, out, out_row);
}

void Transpose(Rows from, std::size_t rows, std::size_t cols, float* to, std::size_t to_row) {
  transpose_all(from, rows, cols, to, to_row);
}

}  // namespace
}  // namespace kvzip::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace kvzip::kernels {

HWY_EXPORT(Multiply);
HWY_EXPORT(MultiplyAdd);
HWY_EXPORT(Transpose);

void multiply(Rows a, std::size_t m, std::size_t terms, Rows b, std::size_t n, float* out, std::size_t out_row) {
  HWY_DYNAMIC_DISPATCH(Multiply)(a, m, terms, b, n, out, out_row);
}
void multiply_add(Rows a, std::size_t m, std::size_t terms, Rows b, std::size_t n, float* out, std::size_t out_row) {
  HWY_DYNAMIC_DISPATCH(MultiplyAdd)(a, m, terms, b, n, out, out_row);
}
void transpose(Rows from, std::size_t rows, std::size_t cols, float* to, std::size_t to_row) {
  HWY_DYNAMIC_DISPATCH(Transpose)(from, rows, cols, to, to_row);
}

}  // namespace kvzip::kernels
#endif
