// SPDX-License-Identifier: Apache-2.0
#include "codec/kernels/rows.hpp"

#include <bit>
#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "codec/kernels/rows.cpp"
#include <hwy/foreach_target.h>  // compiles the file once per instruction set
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace kvzip::kernels::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

constexpr std::size_t kLanes = 16;

/// The instructions' own minimum and maximum: no branch, no NaN handling; the second one of two zeros.
inline float smaller(float a, float b) {
  return a < b ? a : b;
}
inline float larger(float a, float b) {
  return a > b ? a : b;
}

/// As integers, in four vectors that do not wait for each other.
float largest_magnitude(const float* x, std::size_t n) {
  const hn::ScalableTag<float> f;
  const hn::RebindToSigned<decltype(f)> d;
  const std::size_t lanes = hn::Lanes(d);
  const auto magnitudes = [&](const float* from) { return hn::BitCast(d, hn::Abs(hn::LoadU(f, from))); };
  auto a0 = hn::Zero(d), a1 = a0, a2 = a0, a3 = a0;
  std::size_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes) {
    a0 = hn::Max(a0, magnitudes(x + i));
    a1 = hn::Max(a1, magnitudes(x + i + lanes));
    a2 = hn::Max(a2, magnitudes(x + i + 2 * lanes));
    a3 = hn::Max(a3, magnitudes(x + i + 3 * lanes));
  }
  std::int32_t largest = hn::GetLane(hn::MaxOfLanes(d, hn::Max(hn::Max(a0, a1), hn::Max(a2, a3))));
  for (; i < n; ++i) {
    const std::int32_t magnitude = std::bit_cast<std::int32_t>(x[i]) & 0x7fffffff;
    largest = magnitude > largest ? magnitude : largest;
  }
  return std::bit_cast<float>(largest);
}

/// The order that decides between zeros.
void min_max_in_order(const float* x, std::size_t n, float* low, float* high) {
  std::size_t i = 0;
  if (n >= kLanes) {
    float lo[kLanes], hi[kLanes];
    for (std::size_t j = 0; j < kLanes; ++j) lo[j] = hi[j] = x[j];
    for (i = kLanes; i + kLanes <= n; i += kLanes) {
      for (std::size_t j = 0; j < kLanes; ++j) {
        lo[j] = smaller(x[i + j], lo[j]);
        hi[j] = larger(x[i + j], hi[j]);
      }
    }
    for (std::size_t j = 0; j < kLanes; ++j) {
      *low = smaller(lo[j], *low);
      *high = larger(hi[j], *high);
    }
  }
  for (; i < n; ++i) {
    *low = smaller(x[i], *low);
    *high = larger(x[i], *high);
  }
}

inline void min_max_one(const float* x, std::size_t n, float* low, float* high) {
  const hn::CappedTag<float, kLanes> d;
  const std::size_t lanes = hn::Lanes(d);
  float lo = *low, hi = *high;
  std::size_t i = 0;
  if (n >= lanes) {
    auto lows = hn::LoadU(d, x), highs = lows;
    for (i = lanes; i + lanes <= n; i += lanes) {
      const auto v = hn::LoadU(d, x + i);
      lows = hn::Min(lows, v);
      highs = hn::Max(highs, v);
    }
    lo = smaller(hn::GetLane(hn::MinOfLanes(d, lows)), lo);
    hi = larger(hn::GetLane(hn::MaxOfLanes(d, highs)), hi);
  }
  for (; i < n; ++i) {
    lo = smaller(x[i], lo);
    hi = larger(x[i], hi);
  }
  // Only zeros compare equal and differ: for them, and only for them, order matters.
  if (lo == 0 || hi == 0) return min_max_in_order(x, n, low, high);
  *low = lo;
  *high = hi;
}

void min_max(const float* x, std::size_t n, float* low, float* high) {
  min_max_one(x, n, low, high);
}

void min_max_segments(const float* x, const std::uint32_t* edges, std::size_t segments, float* low, float* high) {
  for (std::size_t s = 0; s < segments; ++s) {
    min_max_one(x + edges[s], edges[s + 1] - edges[s], low + s, high + s);
  }
}

void min_max_columns(const float* HWY_RESTRICT x, std::size_t n, float* HWY_RESTRICT low, float* HWY_RESTRICT high) {
  for (std::size_t i = 0; i < n; ++i) {
    low[i] = smaller(x[i], low[i]);
    high[i] = larger(x[i], high[i]);
  }
}

void subtract(const float* HWY_RESTRICT approximation, const std::uint8_t* HWY_RESTRICT taken, std::size_t n,
              float* HWY_RESTRICT x) {
  if (taken == nullptr) {
    for (std::size_t i = 0; i < n; ++i) x[i] -= approximation[i];
  } else {
    for (std::size_t i = 0; i < n; ++i) x[i] = taken[i] != 0 ? 0.0f : x[i] - approximation[i];
  }
}

}  // namespace kvzip::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace kvzip::kernels {

HWY_EXPORT(largest_magnitude);
HWY_EXPORT(min_max);
HWY_EXPORT(min_max_segments);
HWY_EXPORT(min_max_columns);
HWY_EXPORT(subtract);

float largest_magnitude(const float* x, std::size_t n) {
  return HWY_DYNAMIC_DISPATCH(largest_magnitude)(x, n);
}
bool all_finite(const float* x, std::size_t n) {
  return std::isfinite(largest_magnitude(x, n));
}
void min_max(const float* x, std::size_t n, float* low, float* high) {
  HWY_DYNAMIC_DISPATCH(min_max)(x, n, low, high);
}
void min_max_segments(const float* x, const std::uint32_t* edges, std::size_t segments, float* low, float* high) {
  HWY_DYNAMIC_DISPATCH(min_max_segments)(x, edges, segments, low, high);
}
void min_max_columns(const float* x, std::size_t n, float* low, float* high) {
  HWY_DYNAMIC_DISPATCH(min_max_columns)(x, n, low, high);
}
void subtract(const float* approximation, const std::uint8_t* taken, std::size_t n, float* x) {
  HWY_DYNAMIC_DISPATCH(subtract)(approximation, taken, n, x);
}
}  // namespace kvzip::kernels
#endif
