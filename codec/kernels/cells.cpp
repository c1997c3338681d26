// SPDX-License-Identifier: Apache-2.0
#include "codec/kernels/cells.hpp"

#include <algorithm>
#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "codec/kernels/cells.cpp"
#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>  // compiles the file once per instruction set
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace kvzip::kernels::HWY_NAMESPACE {

namespace {

namespace hn = hwy::HWY_NAMESPACE;

/// Rows are parts of ones that lie too far apart for the machine to see the next ones coming.
constexpr std::size_t kAhead = 8;
template <typename T>
HWY_INLINE void fetch_ahead(const T* row, std::size_t width) {
  constexpr std::size_t kLine = 64 / sizeof(T);
  for (std::size_t i = 0; i < width; i += kLine) hwy::Prefetch(row + i);
}

void RowToCells(const float* x, std::size_t n, float step, float round, float most, std::int16_t* codes) {
  const hn::ScalableTag<float> f;
  const hn::Rebind<std::int16_t, decltype(f)> d;
  const hn::RebindToSigned<decltype(f)> wide;
  const std::size_t lanes = hn::Lanes(f);
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto v = hn::LoadU(f, x + i);
    const auto steps = hn::Add(hn::Div(hn::Abs(v), hn::Set(f, step)), hn::Set(f, round));
    const auto cells = hn::ConvertTo(wide, hn::Min(steps, hn::Set(f, most)));
    const auto negative = hn::RebindMask(wide, hn::Lt(v, hn::Zero(f)));
    hn::StoreU(hn::DemoteTo(d, hn::IfThenElse(negative, hn::Neg(cells), cells)), d, codes + i);
  }
  for (; i < n; ++i) {
    const auto cell = static_cast<std::int32_t>(std::min(std::fabs(x[i]) / step + round, most));
    codes[i] = static_cast<std::int16_t>(x[i] < 0 ? -cell : cell);
  }
}

void RowFromCells(const std::int16_t* codes, std::size_t n, float step, float shift, float* x) {
  const hn::ScalableTag<float> f;
  const hn::Rebind<std::int16_t, decltype(f)> d;
  const hn::RebindToSigned<decltype(f)> wide;
  const std::size_t lanes = hn::Lanes(f);
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto q = hn::ConvertTo(f, hn::PromoteTo(wide, hn::LoadU(d, codes + i)));
    const auto towards = hn::IfThenElseZero(hn::Ne(q, hn::Zero(f)), hn::CopySign(hn::Set(f, shift), q));
    hn::StoreU(hn::Mul(hn::Add(q, towards), hn::Set(f, step)), f, x + i);
  }
  for (; i < n; ++i) {
    const auto q = static_cast<float>(codes[i]);
    x[i] = (q == 0 ? 0 : q < 0 ? q - shift : q + shift) * step;
  }
}

void ScaleOne(const float* x, std::size_t n, float factor, const float* offset, bool blank, float* out) {
  const hn::ScalableTag<float> f;
  const std::size_t lanes = hn::Lanes(f);
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto value = hn::Add(hn::Mul(hn::LoadU(f, x + i), hn::Set(f, factor)), hn::LoadU(f, offset + i));
    hn::StoreU(blank ? value : hn::Add(hn::LoadU(f, out + i), value), f, out + i);
  }
  for (; i < n; ++i) {
    const float value = x[i] * factor + offset[i];
    out[i] = blank ? value : out[i] + value;
  }
}

void ToCells(const CellRows& rows, const float* x, float round, float most, std::int16_t* const* codes) {
  for (std::size_t r = 0; r < rows.count; ++r) {
    if (r + kAhead < rows.count) fetch_ahead(codes[r + kAhead] + rows.first, rows.width);
    RowToCells(x + r * rows.width, rows.width, rows.steps[r], round, most, codes[r] + rows.first);
  }
}

void FromCells(const CellRows& rows, std::int16_t* const* codes, float shift, float* x) {
  for (std::size_t r = 0; r < rows.count; ++r) {
    if (r + kAhead < rows.count) fetch_ahead(codes[r + kAhead] + rows.first, rows.width);
    RowFromCells(codes[r] + rows.first, rows.width, rows.steps[r], shift, x + r * rows.width);
  }
}

void ScaleRows(const float* x, std::size_t count, std::size_t width, float factor, const float* offset, bool blank,
               float* out, std::size_t out_row) {
  for (std::size_t r = 0; r < count; ++r, x += width, out += out_row) {
    if (r + kAhead < count) fetch_ahead(out + kAhead * out_row, width);
    ScaleOne(x, width, factor, offset, blank, out);
  }
}

}  // namespace
}  // namespace kvzip::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace kvzip::kernels {

HWY_EXPORT(ToCells);
HWY_EXPORT(FromCells);
HWY_EXPORT(ScaleRows);

void to_cells(const CellRows& rows, const float* x, float round, float most, std::int16_t* const* codes) {
  HWY_DYNAMIC_DISPATCH(ToCells)(rows, x, round, most, codes);
}
void from_cells(const CellRows& rows, std::int16_t* const* codes, float shift, float* x) {
  HWY_DYNAMIC_DISPATCH(FromCells)(rows, codes, shift, x);
}
void scale_rows(const float* x, std::size_t count, std::size_t width, float factor, const float* offset, bool blank,
                float* out, std::size_t out_row) {
  HWY_DYNAMIC_DISPATCH(ScaleRows)(x, count, width, factor, offset, blank, out, out_row);
}

}  // namespace kvzip::kernels
#endif
