// SPDX-License-Identifier: Apache-2.0
// A few rows of a product, a few vectors wide, whose sums stay in registers while the terms go by. Included once per
// target.

HWY_BEFORE_NAMESPACE();
namespace kvzip::kernels {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

template <std::size_t kLanes>
using TileFloats = hn::CappedTag<float, kLanes>;

/// What becomes of what is there: products are added or taken away, or take its place.
enum class Into { add, subtract, place };

/// out(r, j) op= a(r, k) * b(k, j), k = 0, 1, .. below `terms`, for kRows rows and one vector of j. As many rows as
/// there are registers for: then each vector of b is read once for all of them, and weights come with the
/// multiplications.
template <std::size_t kRows, std::size_t kLanes, Into kInto>
HWY_INLINE HWY_ATTR void multiply_tile(Rows a, std::size_t terms, Rows b, float* out, std::size_t out_row) {
  const TileFloats<kLanes> d;
  hn::Vec<TileFloats<kLanes>> sums[kRows];
#pragma GCC unroll 16
  for (std::size_t r = 0; r < kRows; ++r) {
    sums[r] = kInto == Into::place ? hn::Zero(d) : hn::LoadU(d, out + r * out_row);
  }
  for (std::size_t k = 0; k < terms; ++k) {
    const auto x = hn::LoadU(d, b.data + k * b.row);
#pragma GCC unroll 16
    for (std::size_t r = 0; r < kRows; ++r) {
      const auto product = hn::Mul(hn::Set(d, a.data[r * a.row + k]), x);
      sums[r] = kInto == Into::subtract ? hn::Sub(sums[r], product) : hn::Add(sums[r], product);
    }
  }
#pragma GCC unroll 16
  for (std::size_t r = 0; r < kRows; ++r) hn::StoreU(sums[r], d, out + r * out_row);
}

constexpr std::size_t kTileRows = HWY_TARGET <= HWY_AVX3 ? 16 : 8;

/// The same for n columns, in vectors of at most kLanes, which n is a multiple of.
template <std::size_t kRows, std::size_t kLanes, Into kInto>
HWY_ATTR void multiply_rows(Rows a, std::size_t terms, Rows b, std::size_t n, float* out, std::size_t out_row) {
  const std::size_t lanes = hn::Lanes(TileFloats<kLanes>());
  for (std::size_t j = 0; j < n; j += lanes) {
    multiply_tile<kRows, kLanes, kInto>(a, terms, {b.data + j, b.row}, out + j, out_row);
  }
}

/// The same for m rows.
template <std::size_t kLanes, Into kInto>
HWY_ATTR void multiply_all(Rows a, std::size_t m, std::size_t terms, Rows b, std::size_t n, float* out,
                           std::size_t out_row) {
  std::size_t i = 0;
  const auto from = [&] { return Rows{a.data + i * a.row, a.row}; };
  for (; i + kTileRows <= m; i += kTileRows) {
    multiply_rows<kTileRows, kLanes, kInto>(from(), terms, b, n, out + i * out_row, out_row);
  }
  for (; i + 4 <= m; i += 4) multiply_rows<4, kLanes, kInto>(from(), terms, b, n, out + i * out_row, out_row);
  for (; i < m; ++i) multiply_rows<1, kLanes, kInto>(from(), terms, b, n, out + i * out_row, out_row);
}

}  // namespace HWY_NAMESPACE
}  // namespace kvzip::kernels
HWY_AFTER_NAMESPACE();
