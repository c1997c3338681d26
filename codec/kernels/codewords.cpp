// SPDX-License-Identifier: Apache-2.0
#include "codec/kernels/codewords.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "codec/kernels/codewords.cpp"
#include <hwy/foreach_target.h>  // compiles the file once per instruction set
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace kvzip::kernels::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

/// A comparison's mask is -1 as an integer, so that subtracting it counts.
void nearest_entries(const float* HWY_RESTRICT x, std::size_t n, const float* HWY_RESTRICT bounds, std::size_t count,
                     std::uint8_t* HWY_RESTRICT codes) {
  const hn::ScalableTag<float> f;
  const hn::RebindToSigned<decltype(f)> d;
  const hn::Rebind<std::uint8_t, decltype(f)> bytes;
  const std::size_t lanes = hn::Lanes(f);
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    const auto v = hn::LoadU(f, x + i);
    auto below = hn::Zero(d);
    for (std::size_t j = 0; j < count; ++j) {
      below = hn::Sub(below, hn::BitCast(d, hn::VecFromMask(f, hn::Gt(v, hn::Set(f, bounds[j])))));
    }
    hn::StoreU(hn::DemoteTo(bytes, below), bytes, codes + i);
  }
  for (; i < n; ++i) {
    unsigned below = 0;
    for (std::size_t j = 0; j < count; ++j) below += x[i] > bounds[j] ? 1 : 0;
    codes[i] = static_cast<std::uint8_t>(below);
  }
}

void entry_values(const std::uint8_t* HWY_RESTRICT codes, std::size_t n, const float* HWY_RESTRICT entries,
                  float* HWY_RESTRICT x) {
  for (std::size_t i = 0; i < n; ++i) x[i] = 0.0f + entries[codes[i]];
}

void entry_values_add(const std::uint8_t* HWY_RESTRICT codes, std::size_t n, const float* HWY_RESTRICT entries,
                      float* HWY_RESTRICT x) {
  for (std::size_t i = 0; i < n; ++i) x[i] += entries[codes[i]];
}

}  // namespace kvzip::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace kvzip::kernels {

HWY_EXPORT(nearest_entries);
HWY_EXPORT(entry_values);
HWY_EXPORT(entry_values_add);

void nearest_entries(const float* x, std::size_t n, const float* bounds, std::size_t count, std::uint8_t* codes) {
  HWY_DYNAMIC_DISPATCH(nearest_entries)(x, n, bounds, count, codes);
}
void entry_values(const std::uint8_t* codes, std::size_t n, const float* entries, float* x) {
  HWY_DYNAMIC_DISPATCH(entry_values)(codes, n, entries, x);
}
void entry_values_add(const std::uint8_t* codes, std::size_t n, const float* entries, float* x) {
  HWY_DYNAMIC_DISPATCH(entry_values_add)(codes, n, entries, x);
}

}  // namespace kvzip::kernels
#endif
