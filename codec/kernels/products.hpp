// SPDX-License-Identifier: Apache-2.0
// Products with a tall matrix E and a few vectors, as low-rank iterations need them. Every target adds in the same
// order, so that encoded bytes and decoded values do not depend on the machine.
#pragma once

#include <cstddef>
#include <cstdint>

namespace kvzip::kernels {

/// rows x cols floats in one piece; cols is a multiple of kPartials.
struct Block {
  const float* data;
  std::size_t rows, cols;
};
/// Partial sums of a reduction along a row: as many as the widest vectors have lanes.
inline constexpr std::size_t kPartials = 16;
/// Copies rows of `cols` floats, `stride` apart, to rows of e_cols >= cols floats, zeros behind. Returns the largest
/// magnitude. No NaN.
float gather_block(const float* x, std::size_t rows, std::size_t cols, std::size_t stride, float* e,
                   std::size_t e_cols);

/// Vectors go through the products four at a time, so that a row read once serves four; a factor's last quad is filled
/// up with zero vectors. Quad g of p is at p + g * kQuad * cols, vector after vector; quad g of q is at q + g * kQuad *
/// rows, row after row.
inline constexpr std::size_t kQuad = 4;

/// q = E p
void times(const Block& e, const float* p, std::size_t quads, float* q);
/// p = E' q
void transposed_times(const Block& e, const float* q, std::size_t quads, float* p);
/// out = E' (E p), reading E once
void gram_times(const Block& e, const float* p, std::size_t quads, float* out);
/// gather_block() and gram_times() of what it copied, while that is in the nearest cache.
float gather_gram_times(const float* x, std::size_t rows, std::size_t cols, std::size_t stride, float* e,
                        std::size_t e_cols, const float* p, std::size_t quads, float* out);

double dot(const float* a, const float* b, std::size_t n);
/// energies[r] = dot(row r, row r, cols), of rows in one piece.
void row_energies(const float* x, std::size_t rows, std::size_t cols, double* energies);
/// y[i] += factor * x[i]
void add_multiple(const float* x, std::size_t n, float factor, float* y);

/// The second factor of an approximation by parts of `cols` columns: vector k of part i is at p + (i * rank + k) *
/// cols.
struct Parts {
  const float* p;
  std::size_t parts, rank, cols;
};
/// Of one row, l = sum over k of q[i * rank + k] * vector k of part i, in this order: the format fixes it. x += l.
void add_products(const float* q, const Parts& p, float* x);
/// x -= l, but 0 where taken is not 0; taken may be null.
void subtract_products(const float* q, const Parts& p, const std::uint8_t* taken, float* x);

}  // namespace kvzip::kernels
