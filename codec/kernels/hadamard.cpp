// SPDX-License-Identifier: Apache-2.0
#include "codec/kernels/hadamard.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "codec/kernels/hadamard.cpp"
#include <hwy/foreach_target.h>  // compiles the file once per instruction set
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace kvzip::kernels::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

inline void multiply_all(const float* HWY_RESTRICT by, std::size_t n, float* HWY_RESTRICT x) {
  for (std::size_t i = 0; i < n; ++i) x[i] *= by[i];
}

inline void plain_step(std::size_t n, std::size_t h, float* x) {
  for (std::size_t i = 0; i < n; i += 2 * h) {
    for (std::size_t j = i; j < i + h; ++j) {
      const float a = x[j], b = x[j + h];
      x[j] = a + b;
      x[j + h] = a - b;
    }
  }
}

using Wide = hn::CappedTag<float, 8>;

/// Steps of whole vectors.
inline void wide_step(std::size_t n, std::size_t h, float* HWY_RESTRICT x) {
  const Wide d;
  const std::size_t lanes = hn::Lanes(d);
  for (std::size_t i = 0; i < n; i += 2 * h) {
    for (std::size_t j = i; j < i + h; j += lanes) {
      const auto a = hn::LoadU(d, x + j), b = hn::LoadU(d, x + j + h);
      hn::StoreU(hn::Add(a, b), d, x + j);
      hn::StoreU(hn::Sub(a, b), d, x + j + h);
    }
  }
}

#if HWY_TARGET != HWY_SCALAR
/// Every step that stays within a vector: with w the values at the other end, v + w where the bit is 0, w - v where it
/// is 1.
inline void steps_inside(std::size_t n, float factor, float* HWY_RESTRICT x) {
  const Wide d;
  const hn::RepartitionToWide<Wide> pairs;
  const std::size_t lanes = hn::Lanes(d);
  const auto by = hn::Set(d, factor);
  for (std::size_t i = 0; i < n; i += lanes) {
    auto v = hn::Mul(hn::LoadU(d, x + i), by);
    auto w = hn::Shuffle2301(v);
    v = hn::OddEven(hn::Sub(w, v), hn::Add(v, w));
    w = hn::Shuffle1032(v);
    v = hn::BitCast(d, hn::OddEven(hn::BitCast(pairs, hn::Sub(w, v)), hn::BitCast(pairs, hn::Add(v, w))));
    if (lanes == 8) {
      w = hn::SwapAdjacentBlocks(v);
      v = hn::OddEvenBlocks(hn::Sub(w, v), hn::Add(v, w));
    }
    hn::StoreU(v, d, x + i);
  }
}
#endif

void hadamard(std::size_t n, float factor, float* x) {
  const std::size_t lanes = hn::Lanes(Wide());
  std::size_t h = 1;
#if HWY_TARGET != HWY_SCALAR
  if (n >= lanes && lanes >= 4) {
    steps_inside(n, factor, x);
    h = lanes;
  }
#endif
  if (h == 1) {
    for (std::size_t i = 0; i < n; ++i) x[i] *= factor;
  }
  for (; h < n; h *= 2) {
    if (h % lanes == 0) {
      wide_step(n, h, x);
    } else {
      plain_step(n, h, x);
    }
  }
}

void rotate(const Rotation& by, std::size_t count, float* x) {
  for (std::size_t v = 0; v < count; ++v, x += by.dim) {
    for (std::size_t round = 0; round < by.rounds; ++round) {
      multiply_all(by.signs + round * by.dim, by.dim, x);
      hadamard(by.width, by.factor, x);
      if (by.width != by.dim) hadamard(by.width, by.factor, x + by.dim - by.width);
    }
  }
}

void rotate_back(const Rotation& by, std::size_t count, float* x) {
  for (std::size_t v = 0; v < count; ++v, x += by.dim) {
    for (std::size_t round = by.rounds; round-- > 0;) {
      if (by.width != by.dim) hadamard(by.width, by.factor, x + by.dim - by.width);
      hadamard(by.width, by.factor, x);
      multiply_all(by.signs + round * by.dim, by.dim, x);
    }
  }
}

}  // namespace kvzip::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace kvzip::kernels {

HWY_EXPORT(hadamard);
HWY_EXPORT(rotate);
HWY_EXPORT(rotate_back);

void hadamard(std::size_t n, float factor, float* x) {
  HWY_DYNAMIC_DISPATCH(hadamard)(n, factor, x);
}
void rotate(const Rotation& by, std::size_t count, float* x) {
  HWY_DYNAMIC_DISPATCH(rotate)(by, count, x);
}
void rotate_back(const Rotation& by, std::size_t count, float* x) {
  HWY_DYNAMIC_DISPATCH(rotate_back)(by, count, x);
}

}  // namespace kvzip::kernels
#endif
