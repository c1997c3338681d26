// SPDX-License-Identifier: Apache-2.0
#include "codec/kernels/hadamard.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "codec/kernels/hadamard.cpp"
#include <hwy/foreach_target.h>  // compiles the file once per instruction set
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace kvzip::kernels::HWY_NAMESPACE {

void multiply(const float* HWY_RESTRICT by, std::size_t n, float* HWY_RESTRICT x) {
  for (std::size_t i = 0; i < n; ++i) x[i] *= by[i];
}

/// Steps h = 1, 2 and 4, within runs of eight values.
inline void small_steps(std::size_t n, float* HWY_RESTRICT x) {
  for (std::size_t i = 0; i < n; i += 8) {
    float* v = x + i;
    const float a0 = v[0] + v[1], a1 = v[0] - v[1], a2 = v[2] + v[3], a3 = v[2] - v[3];
    const float a4 = v[4] + v[5], a5 = v[4] - v[5], a6 = v[6] + v[7], a7 = v[6] - v[7];
    const float b0 = a0 + a2, b1 = a1 + a3, b2 = a0 - a2, b3 = a1 - a3;
    const float b4 = a4 + a6, b5 = a5 + a7, b6 = a4 - a6, b7 = a5 - a7;
    v[0] = b0 + b4, v[1] = b1 + b5, v[2] = b2 + b6, v[3] = b3 + b7;
    v[4] = b0 - b4, v[5] = b1 - b5, v[6] = b2 - b6, v[7] = b3 - b7;
  }
}

inline void step(std::size_t n, std::size_t h, float* x) {
  for (std::size_t i = 0; i < n; i += 2 * h) {
    float* HWY_RESTRICT low = x + i;
    float* HWY_RESTRICT high = low + h;
    for (std::size_t j = 0; j < h; ++j) {
      const float a = low[j], b = high[j];
      low[j] = a + b;
      high[j] = a - b;
    }
  }
}

void hadamard(std::size_t n, float factor, float* x) {
  for (std::size_t i = 0; i < n; ++i) x[i] *= factor;
  std::size_t h = 1;
  if (n >= 8) {
    small_steps(n, x);
    h = 8;
  }
  for (; h < n; h *= 2) step(n, h, x);
}

}  // namespace kvzip::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace kvzip::kernels {

HWY_EXPORT(multiply);
HWY_EXPORT(hadamard);

void multiply(const float* by, std::size_t n, float* x) {
  HWY_DYNAMIC_DISPATCH(multiply)(by, n, x);
}
void hadamard(std::size_t n, float factor, float* x) {
  HWY_DYNAMIC_DISPATCH(hadamard)(n, factor, x);
}

}  // namespace kvzip::kernels
#endif
