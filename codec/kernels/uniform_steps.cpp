// SPDX-License-Identifier: Apache-2.0
#include "codec/kernels/uniform_steps.hpp"

#include <bit>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "codec/kernels/uniform_steps.cpp"
#include <hwy/foreach_target.h>  // compiles the file once per instruction set
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace kvzip::kernels::HWY_NAMESPACE {

/// A magnitude in steps. 2^23 leaves the sum no bits below its units, so the addition itself rounds, ties to even, and
/// the sum's low bits are the number.
template <bool DeadZone>
inline std::int32_t steps_of(float x, const UniformSteps& u) {
  const float magnitude = (x < 0.0f ? -x : x) / u.step;
  const float held = magnitude < u.zero ? magnitude : u.zero;
  if constexpr (DeadZone) return static_cast<std::int32_t>(held + u.round);
  return std::bit_cast<std::int32_t>(held + 8388608.0f) & 0xffff;
}

template <bool DeadZone, bool High>
inline void codes_of(const float* HWY_RESTRICT x, std::size_t n, const UniformSteps& u,
                     std::uint8_t* HWY_RESTRICT codes, std::uint8_t* HWY_RESTRICT high_codes) {
  const UniformSteps held = u;
  const auto zero = static_cast<std::int32_t>(held.zero);
  for (std::size_t i = 0; i < n; ++i) {
    const std::int32_t steps = steps_of<DeadZone>(x[i], held);
    const std::int32_t code = zero + (x[i] < 0.0f ? -steps : steps);
    codes[i] = static_cast<std::uint8_t>(code);
    if constexpr (High) high_codes[i] = static_cast<std::uint8_t>(code >> 8);
  }
}

void uniform_codes(const float* x, std::size_t n, const UniformSteps& u, std::uint8_t* codes,
                   std::uint8_t* high_codes) {
  if (high_codes != nullptr) {
    return u.dead_zone ? codes_of<true, true>(x, n, u, codes, high_codes)
                       : codes_of<false, true>(x, n, u, codes, high_codes);
  }
  return u.dead_zone ? codes_of<true, false>(x, n, u, codes, nullptr) : codes_of<false, false>(x, n, u, codes, nullptr);
}

template <bool Add, bool High>
inline void values_of(const std::uint8_t* HWY_RESTRICT codes, const std::uint8_t* HWY_RESTRICT high_codes,
                      std::size_t n, const UniformSteps& u, float* HWY_RESTRICT x) {
  const float step = u.step, one = u.one, more = u.more;
  const auto zero = static_cast<std::int32_t>(u.zero);
  for (std::size_t i = 0; i < n; ++i) {
    std::int32_t q = codes[i];
    if constexpr (High) q += 256 * high_codes[i];
    q -= zero;
    const std::int32_t magnitude = q < 0 ? -q : q;
    const float inner = magnitude == 0 ? 0.0f : one;
    const float moved = (static_cast<float>(magnitude) - (magnitude > 1 ? more : inner)) * step;
    x[i] = (Add ? x[i] : 0.0f) + (q < 0 ? -moved : moved);
  }
}

void uniform_values(const std::uint8_t* codes, const std::uint8_t* high_codes, std::size_t n, const UniformSteps& u,
                    float* x) {
  if (high_codes != nullptr) return values_of<false, true>(codes, high_codes, n, u, x);
  return values_of<false, false>(codes, nullptr, n, u, x);
}

void uniform_values_add(const std::uint8_t* codes, const std::uint8_t* high_codes, std::size_t n, const UniformSteps& u,
                        float* x) {
  if (high_codes != nullptr) return values_of<true, true>(codes, high_codes, n, u, x);
  return values_of<true, false>(codes, nullptr, n, u, x);
}

template <bool High>
inline void sums_of(const float* HWY_RESTRICT x, const std::uint8_t* HWY_RESTRICT codes,
                    const std::uint8_t* HWY_RESTRICT high_codes, std::size_t n, const UniformSteps& u,
                    UniformSums& sums) {
  const float step = u.step;
  const auto zero = static_cast<std::int32_t>(u.zero);
  std::int32_t one = 0, ones = 0, more = 0, mores = 0;
  for (std::size_t i = 0; i < n; ++i) {
    std::int32_t q = codes[i];
    if constexpr (High) q += 256 * high_codes[i];
    q -= zero;
    q = q < 0 ? -q : q;
    const float far = static_cast<float>(q) - (x[i] < 0.0f ? -x[i] : x[i]) / step;
    const auto below = static_cast<std::int32_t>((far < -1.0f ? -1.0f : far) * 65536.0f);
    const std::int32_t is_one = q == 1 ? -1 : 0, is_more = q > 1 ? -1 : 0;
    one += below & is_one;
    ones -= is_one;
    more += below & is_more;
    mores -= is_more;
  }
  sums.one += one;
  sums.ones += ones;
  sums.more += more;
  sums.mores += mores;
}

void uniform_sums(const float* x, const std::uint8_t* codes, const std::uint8_t* high_codes, std::size_t n,
                  const UniformSteps& u, UniformSums& sums) {
  constexpr std::size_t kBlock = 16384;  // of them 65536 each stay below 2^31
  for (std::size_t i = 0; i < n; i += kBlock) {
    const std::size_t length = n - i < kBlock ? n - i : kBlock;
    if (high_codes != nullptr) {
      sums_of<true>(x + i, codes + i, high_codes + i, length, u, sums);
    } else {
      sums_of<false>(x + i, codes + i, nullptr, length, u, sums);
    }
  }
}

}  // namespace kvzip::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace kvzip::kernels {

HWY_EXPORT(uniform_codes);
HWY_EXPORT(uniform_values);
HWY_EXPORT(uniform_values_add);
HWY_EXPORT(uniform_sums);

void uniform_codes(const float* x, std::size_t n, const UniformSteps& u, std::uint8_t* codes,
                   std::uint8_t* high_codes) {
  HWY_DYNAMIC_DISPATCH(uniform_codes)(x, n, u, codes, high_codes);
}
void uniform_values(const std::uint8_t* codes, const std::uint8_t* high_codes, std::size_t n, const UniformSteps& u,
                    float* x) {
  HWY_DYNAMIC_DISPATCH(uniform_values)(codes, high_codes, n, u, x);
}
void uniform_values_add(const std::uint8_t* codes, const std::uint8_t* high_codes, std::size_t n, const UniformSteps& u,
                        float* x) {
  HWY_DYNAMIC_DISPATCH(uniform_values_add)(codes, high_codes, n, u, x);
}
void uniform_sums(const float* x, const std::uint8_t* codes, const std::uint8_t* high_codes, std::size_t n,
                  const UniformSteps& u, UniformSums& sums) {
  HWY_DYNAMIC_DISPATCH(uniform_sums)(x, codes, high_codes, n, u, sums);
}

}  // namespace kvzip::kernels
#endif
