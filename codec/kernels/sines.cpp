// SPDX-License-Identifier: Apache-2.0
#include "codec/kernels/sines.hpp"

#include "codec/portable_math.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "codec/kernels/sines.cpp"
#include <hwy/foreach_target.h>  // compiles the file once per instruction set
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace kvzip::kernels::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

/// The operations of portable::sincos() in its order, on every lane; divisions in a chain are what it waits for.
void Sines(double position, const double* frequency, std::size_t n, float* sine, float* cosine) {
  const hn::ScalableTag<double> d;
  const std::size_t lanes = hn::Lanes(d);
  const hn::Rebind<float, decltype(d)> f;
  const auto set = [&](double x) { return hn::Set(d, x); };
  const auto one = set(1);
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto x = hn::Mul(set(position), hn::LoadU(d, frequency + i));
    const auto k = hn::Floor(hn::Add(hn::Mul(x, set(portable::kTwoOverPi)), set(0.5)));
    auto r = hn::Sub(x, hn::Mul(k, set(portable::kPi2High)));
    r = hn::Sub(r, hn::Mul(k, set(portable::kPi2Middle)));
    r = hn::Sub(r, hn::Mul(k, set(portable::kPi2Low)));
    const auto r2 = hn::Mul(r, r);
    auto s = one, c = one;
    for (int m = 20; m >= 2; m -= 2) {
      s = hn::Sub(one, hn::Div(hn::Mul(s, r2), set(m * (m + 1))));
      c = hn::Sub(one, hn::Div(hn::Mul(c, r2), set((m - 1) * m)));
    }
    s = hn::Mul(s, r);
    const auto quarter = hn::Sub(k, hn::Mul(set(4), hn::Floor(hn::Mul(k, set(0.25)))));
    const auto odd = hn::Or(hn::Eq(quarter, one), hn::Eq(quarter, set(3)));
    const auto sin = hn::IfThenElse(odd, c, s), cos = hn::IfThenElse(odd, s, c);
    const auto below = hn::Ge(quarter, set(2)), left = hn::Or(hn::Eq(quarter, one), hn::Eq(quarter, set(2)));
    hn::StoreU(hn::DemoteTo(f, hn::IfThenElse(below, hn::Neg(sin), sin)), f, sine + i);
    hn::StoreU(hn::DemoteTo(f, hn::IfThenElse(left, hn::Neg(cos), cos)), f, cosine + i);
  }
  for (; i < n; ++i) {
    const auto [s, c] = portable::sincos(position * frequency[i]);
    sine[i] = static_cast<float>(s);
    cosine[i] = static_cast<float>(c);
  }
}

}  // namespace kvzip::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace kvzip::kernels {

HWY_EXPORT(Sines);

void sines(double position, const double* frequency, std::size_t n, float* sine, float* cosine) {
  HWY_DYNAMIC_DISPATCH(Sines)(position, frequency, n, sine, cosine);
}

}  // namespace kvzip::kernels
#endif
