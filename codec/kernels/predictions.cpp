// SPDX-License-Identifier: Apache-2.0
#include "codec/kernels/predictions.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "codec/kernels/predictions.cpp"
#include <hwy/foreach_target.h>  // compiles the file once per instruction set
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace kvzip::kernels::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

constexpr float kMemory = 1 - 0x1p-6f;
constexpr float kLeastEnergy = 0x1p-20f;  // so that where means are nothing no factor is 0 / 0

template <typename D>
HWY_INLINE HWY_ATTR void predict_vector(D d, const float* sum, float share, const float* with_mean,
                                        const float* of_mean, float* mean, float* prediction) {
  const auto zero = hn::Zero(d), one = hn::Set(d, 1.0f);
  const auto m = hn::Mul(hn::LoadU(d, sum), hn::Set(d, share));
  auto factor = hn::Div(hn::LoadU(d, with_mean), hn::LoadU(d, of_mean));
  factor = hn::IfThenElseZero(hn::Gt(factor, zero), factor);
  factor = hn::IfThenElse(hn::Lt(factor, one), factor, one);
  hn::StoreU(m, d, mean);
  hn::StoreU(hn::Mul(m, factor), d, prediction);
}

template <typename D>
HWY_INLINE HWY_ATTR void learn_vector(D d, const float* mean, const float* x, float* with_mean, float* of_mean) {
  const auto memory = hn::Set(d, kMemory), m = hn::LoadU(d, mean);
  const auto energy = hn::Add(hn::Mul(m, m), hn::Set(d, kLeastEnergy));
  hn::StoreU(hn::Add(hn::Mul(hn::LoadU(d, with_mean), memory), hn::Mul(m, hn::LoadU(d, x))), d, with_mean);
  hn::StoreU(hn::Add(hn::Mul(hn::LoadU(d, of_mean), memory), energy), d, of_mean);
}

void Predict(const float* sum, float share, const float* with_mean, const float* of_mean, std::size_t n, float* mean,
             float* prediction) {
  const hn::ScalableTag<float> d;
  std::size_t k = 0;
  for (; k + hn::Lanes(d) <= n; k += hn::Lanes(d)) {
    predict_vector(d, sum + k, share, with_mean + k, of_mean + k, mean + k, prediction + k);
  }
  for (; k < n; ++k) {
    predict_vector(hn::CappedTag<float, 1>(), sum + k, share, with_mean + k, of_mean + k, mean + k, prediction + k);
  }
}

void LearnFactors(const float* mean, const float* x, std::size_t n, float* with_mean, float* of_mean) {
  const hn::ScalableTag<float> d;
  std::size_t k = 0;
  for (; k + hn::Lanes(d) <= n; k += hn::Lanes(d)) learn_vector(d, mean + k, x + k, with_mean + k, of_mean + k);
  for (; k < n; ++k) learn_vector(hn::CappedTag<float, 1>(), mean + k, x + k, with_mean + k, of_mean + k);
}

}  // namespace
}  // namespace kvzip::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace kvzip::kernels {

HWY_EXPORT(Predict);
HWY_EXPORT(LearnFactors);

void predict(const float* sum, float share, const float* with_mean, const float* of_mean, std::size_t n, float* mean,
             float* prediction) {
  HWY_DYNAMIC_DISPATCH(Predict)(sum, share, with_mean, of_mean, n, mean, prediction);
}
void learn_factors(const float* mean, const float* x, std::size_t n, float* with_mean, float* of_mean) {
  HWY_DYNAMIC_DISPATCH(LearnFactors)(mean, x, n, with_mean, of_mean);
}

}  // namespace kvzip::kernels
#endif
