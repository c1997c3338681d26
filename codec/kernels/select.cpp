// SPDX-License-Identifier: Apache-2.0
#include "codec/kernels/select.hpp"

#include <bit>
#include <cstring>
#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "codec/kernels/select.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace kvzip::kernels::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::CappedTag<float, kMostLanes>;

/// Insertion into two sorted lists per column: each value goes down the list and pushes what it displaces.
template <class D>
void ColumnExtremes(D d, const float* sample, std::size_t rows, std::size_t stride, std::size_t which, float* kept,
                    float* low, float* high) {
  const std::size_t lanes = hn::Lanes(d);
  float* least = kept;
  float* most = kept + which * lanes;
  for (std::size_t k = 0; k < which; ++k) {
    hn::StoreU(hn::Set(d, std::numeric_limits<float>::infinity()), d, least + k * lanes);
    hn::StoreU(hn::Set(d, -std::numeric_limits<float>::infinity()), d, most + k * lanes);
  }
  for (std::size_t r = 0; r < rows; ++r) {
    auto down = hn::LoadU(d, sample + r * stride), up = down;
    for (std::size_t k = 0; k < which; ++k) {
      const auto l = hn::LoadU(d, least + k * lanes), m = hn::LoadU(d, most + k * lanes);
      hn::StoreU(hn::Min(l, down), d, least + k * lanes);
      hn::StoreU(hn::Max(m, up), d, most + k * lanes);
      down = hn::Max(l, down);
      up = hn::Min(m, up);
    }
  }
  hn::StoreU(hn::LoadU(d, least + (which - 1) * lanes), d, low);
  hn::StoreU(hn::LoadU(d, most + (which - 1) * lanes), d, high);
}

void AllColumnExtremes(const float* sample, std::size_t rows, std::size_t cols, std::size_t which, float* kept,
                       float* low, float* high) {
  const Floats d;
  const hn::CappedTag<float, 1> one;
  std::size_t c = 0;
  for (; c + hn::Lanes(d) <= cols; c += hn::Lanes(d)) {
    ColumnExtremes(d, sample + c, rows, cols, which, kept, low + c, high + c);
  }
  for (; c < cols; ++c) ColumnExtremes(one, sample + c, rows, cols, which, kept, low + c, high + c);
}

/// One bit per value, 64 at a time, then the places of the ones. Highway's Compress would do the same, but compiled by
/// GCC for AVX2 it copies its table of 1 KiB to the stack for each vector.
/// low(i, d) and high(i, d) are the bounds of the values from i on.
template <typename Low, typename High>
HWY_INLINE std::size_t Places(const float* x, std::size_t n, Low&& low, High&& high, std::uint32_t* at) {
  constexpr std::size_t kBits = 64;
  const Floats d;
  const std::size_t lanes = hn::Lanes(d);
  std::size_t count = 0, i = 0;
  for (; i + kBits <= n; i += kBits) {
    std::uint64_t beyond = 0;
    for (std::size_t j = 0; j < kBits; j += lanes) {
      const auto v = hn::LoadU(d, x + i + j);
      const auto mask = hn::Or(hn::Le(v, low(i + j, d)), hn::Ge(v, high(i + j, d)));
      std::uint8_t bytes[8];  // as many as Highway may touch
      hn::StoreMaskBits(d, mask, bytes);
      std::uint16_t bits = bytes[0];
      if (lanes > 8) std::memcpy(&bits, bytes, sizeof bits);
      beyond |= std::uint64_t{bits} << j;
    }
    for (; beyond != 0; beyond &= beyond - 1) {
      at[count++] = static_cast<std::uint32_t>(i) + static_cast<std::uint32_t>(std::countr_zero(beyond));
    }
  }
  for (; i < n; ++i) {
    const hn::CappedTag<float, 1> one;
    const float least = hn::GetLane(low(i, one)), most = hn::GetLane(high(i, one));
    if (x[i] <= least || x[i] >= most) at[count++] = static_cast<std::uint32_t>(i);
  }
  return count;
}

std::size_t PlacesBeyond(const float* x, std::size_t n, const float* low, const float* high, std::uint32_t* at) {
  return Places(
      x, n, [low](std::size_t i, auto d) HWY_ATTR { return hn::LoadU(d, low + i); },
      [high](std::size_t i, auto d) HWY_ATTR { return hn::LoadU(d, high + i); }, at);
}

std::size_t PlacesBeyondBoth(const float* x, std::size_t n, float low, float high, std::uint32_t* at) {
  return Places(
      x, n, [low](std::size_t, auto d) HWY_ATTR { return hn::Set(d, low); },
      [high](std::size_t, auto d) HWY_ATTR { return hn::Set(d, high); }, at);
}

void AddToColumns(const float* x, std::size_t n, double* sums) {
  const hn::CappedTag<double, 8> d;
  const hn::Rebind<float, decltype(d)> f;
  const std::size_t lanes = hn::Lanes(d);
  std::size_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    hn::StoreU(hn::Add(hn::LoadU(d, sums + i), hn::PromoteTo(d, hn::LoadU(f, x + i))), d, sums + i);
  }
  for (; i < n; ++i) sums[i] += double{x[i]};
}

/// Eight partial sums on every target, folded in one order.
double Sum(const float* x, std::size_t n) {
  constexpr std::size_t kSums = 8;
  const hn::CappedTag<double, kSums> d;
  const hn::Rebind<float, decltype(d)> f;
  double lane[kSums];
  const std::size_t whole = n / kSums * kSums;
  for (std::size_t part = 0; part < kSums; part += hn::Lanes(d)) {
    auto sum = hn::Zero(d);
    for (std::size_t i = part; i < whole; i += kSums) sum = hn::Add(sum, hn::PromoteTo(d, hn::LoadU(f, x + i)));
    hn::StoreU(sum, d, lane + part);
  }
  for (std::size_t i = whole; i < n; ++i) lane[0] += double{x[i]};
  return ((lane[0] + lane[1]) + (lane[2] + lane[3])) + ((lane[4] + lane[5]) + (lane[6] + lane[7]));
}

}  // namespace
}  // namespace kvzip::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace kvzip::kernels {

HWY_EXPORT(AllColumnExtremes);
HWY_EXPORT(PlacesBeyond);
HWY_EXPORT(PlacesBeyondBoth);
HWY_EXPORT(AddToColumns);
HWY_EXPORT(Sum);

void column_extremes(const float* sample, std::size_t rows, std::size_t cols, std::size_t which, float* kept,
                     float* low, float* high) {
  HWY_DYNAMIC_DISPATCH(AllColumnExtremes)(sample, rows, cols, which, kept, low, high);
}
std::size_t places_beyond(const float* x, std::size_t n, const float* low, const float* high, std::uint32_t* at) {
  return HWY_DYNAMIC_DISPATCH(PlacesBeyond)(x, n, low, high, at);
}
std::size_t places_beyond(const float* x, std::size_t n, float low, float high, std::uint32_t* at) {
  return HWY_DYNAMIC_DISPATCH(PlacesBeyondBoth)(x, n, low, high, at);
}
void add_to_columns(const float* x, std::size_t n, double* sums) {
  HWY_DYNAMIC_DISPATCH(AddToColumns)(x, n, sums);
}
double sum(const float* x, std::size_t n) {
  return HWY_DYNAMIC_DISPATCH(Sum)(x, n);
}

}  // namespace kvzip::kernels
#endif  // HWY_ONCE
