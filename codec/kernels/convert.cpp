// SPDX-License-Identifier: Apache-2.0
// Integer steps and selects give the same bits everywhere, and compilers turn them into vectors of each instruction
// set. Half precision is not read by the instruction for it, which quietens NaN.
#include "codec/kernels/convert.hpp"

#include <bit>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "codec/kernels/convert.cpp"
#include <hwy/foreach_target.h>  // compiles the file once per instruction set
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace kvzip::kernels::HWY_NAMESPACE {

constexpr std::uint32_t kInfinity = 0x7f800000;

template <typename T>
inline T load(const std::byte* in, std::size_t i) {
  T value;
  std::memcpy(&value, in + i * sizeof value, sizeof value);
  return value;
}

template <typename T>
inline void store(T value, std::byte* out, std::size_t i) {
  std::memcpy(out + i * sizeof value, &value, sizeof value);
}

inline std::uint32_t bits_of(float value) {
  return std::bit_cast<std::uint32_t>(value);
}

inline std::uint32_t smaller(std::uint32_t a, std::uint32_t b) {
  return a < b ? a : b;
}

void floats_from_f16(const std::byte* HWY_RESTRICT in, std::size_t n, float* HWY_RESTRICT out) {
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint32_t bits = load<std::uint16_t>(in, i);
    const std::uint32_t magnitude = bits & 0x7fff, wide = magnitude << 13;
    // A subnormal m stands for m 2^-24: the mantissa of 2^-14 (1 + m / 1024), less 2^-14.
    const std::uint32_t subnormal = bits_of(std::bit_cast<float>(wide | 0x38800000) - 0x1p-14f);
    const std::uint32_t normal = wide + (magnitude >= 0x7c00 ? 0x70000000 : 0x38000000);
    out[i] = std::bit_cast<float>((magnitude < 0x400 ? subnormal : normal) | (bits & 0x8000) << 16);
  }
}

inline std::uint16_t f16_of(float value) {
  const std::uint32_t bits = bits_of(value), magnitude = bits & 0x7fffffff;
  const std::uint32_t largest = magnitude < kInfinity ? smaller(magnitude, 0x477fe000) : magnitude;  // 65504
  // Adding 0.5 puts the rounding point at 2^-24, the last bit of a subnormal.
  const std::uint32_t subnormal = bits_of(std::bit_cast<float>(magnitude) + 0.5f) - 0x3f000000;
  const std::uint32_t normal = (largest - 0x38000000 + 0xfff + (largest >> 13 & 1)) >> 13;
  const std::uint32_t special = magnitude > kInfinity ? 0x7e00 | (magnitude >> 13 & 0x3ff) : 0x7c00;
  const std::uint32_t finite = magnitude < 0x38800000 ? subnormal : normal;
  return static_cast<std::uint16_t>((magnitude < kInfinity ? finite : special) | (bits >> 16 & 0x8000));
}

void f16_from_floats(const float* HWY_RESTRICT in, std::size_t n, std::byte* HWY_RESTRICT out) {
  std::size_t i = 0;
#if HWY_ARCH_X86 && HWY_TARGET <= HWY_AVX2
  // F16C rounds to nearest even and keeps the top of a NaN's payload, as f16_of does; 2.5 times as fast.
  namespace hn = hwy::HWY_NAMESPACE;
  const hn::ScalableTag<float> d;
  const hn::Rebind<hwy::float16_t, decltype(d)> half;
  const auto infinity = hn::Inf(d), most = hn::Set(d, 65504.0f);
  for (; i + hn::Lanes(d) <= n; i += hn::Lanes(d)) {
    const auto value = hn::LoadU(d, in + i), magnitude = hn::Abs(value);
    const auto held = hn::IfThenElse(hn::Lt(magnitude, infinity), hn::Min(magnitude, most), magnitude);
    hn::StoreU(hn::DemoteTo(half, hn::CopySign(held, value)), half,
               reinterpret_cast<hwy::float16_t*>(out + i * sizeof(hwy::float16_t)));
  }
#endif
  for (; i < n; ++i) store(f16_of(in[i]), out, i);
}

void floats_from_bf16(const std::byte* HWY_RESTRICT in, std::size_t n, float* HWY_RESTRICT out) {
  for (std::size_t i = 0; i < n; ++i) {
    out[i] = std::bit_cast<float>(static_cast<std::uint32_t>(load<std::uint16_t>(in, i)) << 16);
  }
}

void bf16_from_floats(const float* HWY_RESTRICT in, std::size_t n, std::byte* HWY_RESTRICT out) {
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint32_t bits = bits_of(in[i]), magnitude = bits & 0x7fffffff;
    const std::uint32_t finite = smaller((magnitude + 0x7fff + (magnitude >> 16 & 1)) >> 16, 0x7f7f);
    const std::uint32_t special = magnitude > kInfinity ? magnitude >> 16 | 0x40 : 0x7f80;
    store(static_cast<std::uint16_t>((magnitude < kInfinity ? finite : special) | (bits >> 16 & 0x8000)), out, i);
  }
}

void floats_from_f64(const std::byte* HWY_RESTRICT in, std::size_t n, float* HWY_RESTRICT out) {
  for (std::size_t i = 0; i < n; ++i) out[i] = static_cast<float>(load<double>(in, i));
}

void f64_from_floats(const float* HWY_RESTRICT in, std::size_t n, std::byte* HWY_RESTRICT out) {
  for (std::size_t i = 0; i < n; ++i) store(static_cast<double>(in[i]), out, i);
}

void floats_from_f8(const Float8& form, const std::byte* HWY_RESTRICT in, std::size_t n, float* HWY_RESTRICT out) {
  const int shift = 23 - form.mantissa_bits;
  const std::uint32_t rebias = static_cast<std::uint32_t>(127 - form.bias) << 23, one = 1u << 23;
  const std::uint32_t first_normal = 1u << form.mantissa_bits, max_bits = form.max_bits();
  const std::uint32_t inf = form.has_inf ? 0x7c : 0x80, no_number = form.fnuz ? 0x80 : 0x100;
  const float least_normal = std::bit_cast<float>(rebias + one);
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint32_t bits = load<std::uint8_t>(in, i), magnitude = bits & 0x7f, wide = magnitude << shift;
    const std::uint32_t subnormal = bits_of(std::bit_cast<float>(wide | (rebias + one)) - least_normal);
    std::uint32_t value = magnitude < first_normal ? subnormal : wide + rebias;
    value = magnitude == inf ? kInfinity : value;
    value |= (bits & 0x80) << 24;
    const bool nan = (magnitude > max_bits && magnitude != inf) || bits == no_number;
    out[i] = std::bit_cast<float>(nan ? 0x7fc00000 : value);
  }
}

void f8_from_floats(const Float8& form, const float* HWY_RESTRICT in, std::size_t n, std::byte* HWY_RESTRICT out) {
  const int shift = 23 - form.mantissa_bits;
  const std::uint32_t rebias = static_cast<std::uint32_t>(127 - form.bias) << 23, one = 1u << 23;
  const std::uint32_t half_down = (1u << (shift - 1)) - 1;
  // The float whose last mantissa bit is the type's least subnormal: adding it rounds to that bit.
  const float rounder = std::bit_cast<float>(rebias + one + (static_cast<std::uint32_t>(shift) << 23));
  const std::uint32_t largest = (static_cast<std::uint32_t>(form.max_bits()) << shift) + rebias;
  const std::uint32_t keep_sign = form.fnuz ? 0 : 0x80, nan = form.fnuz ? 0x80 : 0x7f;
  const std::uint32_t inf = form.has_inf ? 0x7c : nan;
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint32_t bits = bits_of(in[i]), magnitude = bits & 0x7fffffff, sign = bits >> 24 & 0x80;
    const std::uint32_t held = smaller(magnitude, largest);
    const std::uint32_t subnormal = bits_of(std::bit_cast<float>(held) + rounder) - bits_of(rounder);
    const std::uint32_t normal = (held - rebias + half_down + (held >> shift & 1)) >> shift;
    const std::uint32_t finite = held < rebias + one ? subnormal : normal;
    const std::uint32_t special = (magnitude > kInfinity ? nan : inf) | (sign & keep_sign);
    const std::uint32_t signed_finite = finite | (finite != 0 ? sign : sign & keep_sign);
    store(static_cast<std::uint8_t>(magnitude < kInfinity ? signed_finite : special), out, i);
  }
}

}  // namespace kvzip::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace kvzip::kernels {

HWY_EXPORT(floats_from_f16);
HWY_EXPORT(f16_from_floats);
HWY_EXPORT(floats_from_bf16);
HWY_EXPORT(bf16_from_floats);
HWY_EXPORT(floats_from_f64);
HWY_EXPORT(f64_from_floats);
HWY_EXPORT(floats_from_f8);
HWY_EXPORT(f8_from_floats);

void floats_from_f16(const std::byte* in, std::size_t n, float* out) {
  HWY_DYNAMIC_DISPATCH(floats_from_f16)(in, n, out);
}
void f16_from_floats(const float* in, std::size_t n, std::byte* out) {
  HWY_DYNAMIC_DISPATCH(f16_from_floats)(in, n, out);
}
void floats_from_bf16(const std::byte* in, std::size_t n, float* out) {
  HWY_DYNAMIC_DISPATCH(floats_from_bf16)(in, n, out);
}
void bf16_from_floats(const float* in, std::size_t n, std::byte* out) {
  HWY_DYNAMIC_DISPATCH(bf16_from_floats)(in, n, out);
}
void floats_from_f64(const std::byte* in, std::size_t n, float* out) {
  HWY_DYNAMIC_DISPATCH(floats_from_f64)(in, n, out);
}
void f64_from_floats(const float* in, std::size_t n, std::byte* out) {
  HWY_DYNAMIC_DISPATCH(f64_from_floats)(in, n, out);
}
void floats_from_f8(const Float8& form, const std::byte* in, std::size_t n, float* out) {
  HWY_DYNAMIC_DISPATCH(floats_from_f8)(form, in, n, out);
}
void f8_from_floats(const Float8& form, const float* in, std::size_t n, std::byte* out) {
  HWY_DYNAMIC_DISPATCH(f8_from_floats)(form, in, n, out);
}

}  // namespace kvzip::kernels
#endif
