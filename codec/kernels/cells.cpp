// SPDX-License-Identifier: Apache-2.0
#include "codec/kernels/cells.hpp"

#include <algorithm>
#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "codec/kernels/cells.cpp"
#include <hwy/foreach_target.h>  // compiles the file once per instruction set
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace kvzip::kernels::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

void ToCells(const float* x, std::size_t n, float step, float round, float most, std::int16_t* codes) {
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

void FromCells(const std::int16_t* codes, std::size_t n, float step, float shift, float* x) {
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

void ScaleRow(const float* x, std::size_t n, float factor, const float* offset, bool blank, float* out) {
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

}  // namespace kvzip::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace kvzip::kernels {

HWY_EXPORT(ToCells);
HWY_EXPORT(FromCells);
HWY_EXPORT(ScaleRow);

void to_cells(const float* x, std::size_t n, float step, float round, float most, std::int16_t* codes) {
  HWY_DYNAMIC_DISPATCH(ToCells)(x, n, step, round, most, codes);
}
void from_cells(const std::int16_t* codes, std::size_t n, float step, float shift, float* x) {
  HWY_DYNAMIC_DISPATCH(FromCells)(codes, n, step, shift, x);
}
void scale_row(const float* x, std::size_t n, float factor, const float* offset, bool blank, float* out) {
  HWY_DYNAMIC_DISPATCH(ScaleRow)(x, n, factor, offset, blank, out);
}

}  // namespace kvzip::kernels
#endif
