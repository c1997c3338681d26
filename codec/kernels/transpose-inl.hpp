// SPDX-License-Identifier: Apache-2.0
// Rows to columns. Included once per target.

HWY_BEFORE_NAMESPACE();
namespace kvzip::kernels {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

/// Four rows of four.
HWY_INLINE HWY_ATTR void transpose_four(const float* from, std::size_t row, float* to, std::size_t to_row) {
#if HWY_TARGET == HWY_SCALAR
  for (std::size_t r = 0; r < 4; ++r) {
    for (std::size_t c = 0; c < 4; ++c) to[c * to_row + r] = from[r * row + c];
  }
#else
  const hn::FixedTag<float, 4> d;
  const auto x0 = hn::LoadU(d, from), x1 = hn::LoadU(d, from + row);
  const auto x2 = hn::LoadU(d, from + 2 * row), x3 = hn::LoadU(d, from + 3 * row);
  const auto low0 = hn::InterleaveLower(d, x0, x2), low1 = hn::InterleaveLower(d, x1, x3);
  const auto high0 = hn::InterleaveUpper(d, x0, x2), high1 = hn::InterleaveUpper(d, x1, x3);
  hn::StoreU(hn::InterleaveLower(d, low0, low1), d, to);
  hn::StoreU(hn::InterleaveUpper(d, low0, low1), d, to + to_row);
  hn::StoreU(hn::InterleaveLower(d, high0, high1), d, to + 2 * to_row);
  hn::StoreU(hn::InterleaveUpper(d, high0, high1), d, to + 3 * to_row);
#endif
}

/// Whole bands of 16 rows go first: what they become are whole lines of the cache.
HWY_ATTR inline void transpose_all(Rows from, std::size_t rows, std::size_t cols, float* to, std::size_t to_row) {
  constexpr std::size_t kBand = 16;
  for (std::size_t begin = 0; begin < rows; begin += kBand) {
    const std::size_t end = std::min(rows, begin + kBand), fours = begin + (end - begin) / 4 * 4;
    std::size_t c = 0;
    for (; c + 4 <= cols; c += 4) {
      for (std::size_t r = begin; r < fours; r += 4) {
        transpose_four(from.data + r * from.row + c, from.row, to + c * to_row + r, to_row);
      }
    }
    for (std::size_t r = begin; r < end; ++r) {
      for (std::size_t at = r < fours ? c : 0; at < cols; ++at) to[at * to_row + r] = from.data[r * from.row + at];
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace kvzip::kernels
HWY_AFTER_NAMESPACE();
