// SPDX-License-Identifier: Apache-2.0
#include "codec/kernels/quantise.hpp"

#include <bit>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "codec/kernels/quantise.cpp"
#include <hwy/foreach_target.h>  // compiles the file once per instruction set
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace kvzip::kernels::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

/// A value moved to [0, top] and rounded to nearest, ties to even. 1.5 * 2^23 has a last bit of 1 and 22 zero bits
/// below its first, so the sum's low bits are the code; two additions alike round on every target.
inline std::uint32_t code_of(float value, float top) {
  const float held = value > 0.0f ? value : 0.0f;
  return std::bit_cast<std::uint32_t>((held < top ? held : top) + 12582912.0f);
}

template <bool Multiply, bool High>
inline void quantise_row(const float* HWY_RESTRICT x, std::size_t n, const QuantColumns& q,
                         std::uint8_t* HWY_RESTRICT codes, std::uint8_t* HWY_RESTRICT high_codes) {
  const float* HWY_RESTRICT low = q.low;
  const float* HWY_RESTRICT step = q.step;
  const float zero = q.zero, top = q.top;
  for (std::size_t i = 0; i < n; ++i) {
    const float steps = Multiply ? (x[i] - low[i]) * step[i] : (x[i] - low[i]) / step[i];
    const std::uint32_t code = code_of(steps + zero, top);
    codes[i] = static_cast<std::uint8_t>(code);
    if constexpr (High) high_codes[i] = static_cast<std::uint8_t>(code >> 8);
  }
}

void quantise(const float* x, std::size_t n, const QuantColumns& q, std::uint8_t* codes, std::uint8_t* high_codes) {
  if (high_codes != nullptr) {
    return q.multiply ? quantise_row<true, true>(x, n, q, codes, high_codes)
                      : quantise_row<false, true>(x, n, q, codes, high_codes);
  }
  return q.multiply ? quantise_row<true, false>(x, n, q, codes, nullptr)
                    : quantise_row<false, false>(x, n, q, codes, nullptr);
}

template <bool Add, bool High, bool Unit>
inline void dequantise_row(const std::uint8_t* HWY_RESTRICT codes, const std::uint8_t* HWY_RESTRICT high_codes,
                           std::size_t n, const QuantColumns& q, float* HWY_RESTRICT x) {
  const float* HWY_RESTRICT low = q.low;
  const float* HWY_RESTRICT scale = q.scale;
  const float zero = q.zero, unit = q.unit;
  for (std::size_t i = 0; i < n; ++i) {
    std::int32_t code = codes[i];
    if constexpr (High) code += 256 * high_codes[i];
    float steps = static_cast<float>(code) - zero;
    if constexpr (Unit) steps /= unit;
    const float value = steps * scale[i] + low[i];
    x[i] = (Add ? x[i] : 0.0f) + value;
  }
}

template <bool Add>
inline void dequantise_any(const std::uint8_t* codes, const std::uint8_t* high_codes, std::size_t n,
                           const QuantColumns& q, float* x) {
  const bool unit = q.unit != 1;
  if (high_codes != nullptr) {
    return unit ? dequantise_row<Add, true, true>(codes, high_codes, n, q, x)
                : dequantise_row<Add, true, false>(codes, high_codes, n, q, x);
  }
  return unit ? dequantise_row<Add, false, true>(codes, nullptr, n, q, x)
              : dequantise_row<Add, false, false>(codes, nullptr, n, q, x);
}

void dequantise(const std::uint8_t* codes, const std::uint8_t* high_codes, std::size_t n, const QuantColumns& q,
                float* x) {
  dequantise_any<false>(codes, high_codes, n, q, x);
}

void dequantise_add(const std::uint8_t* codes, const std::uint8_t* high_codes, std::size_t n, const QuantColumns& q,
                    float* x) {
  dequantise_any<true>(codes, high_codes, n, q, x);
}

/// Whole vectors: what one writes too far, the next segment overwrites.
void spread(const float* HWY_RESTRICT values, const std::uint32_t* HWY_RESTRICT edges, std::size_t segments,
            float* HWY_RESTRICT out) {
  const hn::CappedTag<float, kSpreadSlack> d;
  for (std::size_t s = 0; s < segments; ++s) {
    const auto value = hn::Set(d, values[s]);
    for (std::size_t i = edges[s]; i < edges[s + 1]; i += hn::Lanes(d)) hn::StoreU(value, d, out + i);
  }
}

}  // namespace kvzip::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace kvzip::kernels {

HWY_EXPORT(quantise);
HWY_EXPORT(dequantise);
HWY_EXPORT(dequantise_add);
HWY_EXPORT(spread);

void quantise(const float* x, std::size_t n, const QuantColumns& q, std::uint8_t* codes, std::uint8_t* high_codes) {
  HWY_DYNAMIC_DISPATCH(quantise)(x, n, q, codes, high_codes);
}
void dequantise(const std::uint8_t* codes, const std::uint8_t* high_codes, std::size_t n, const QuantColumns& q,
                float* x) {
  HWY_DYNAMIC_DISPATCH(dequantise)(codes, high_codes, n, q, x);
}
void dequantise_add(const std::uint8_t* codes, const std::uint8_t* high_codes, std::size_t n, const QuantColumns& q,
                    float* x) {
  HWY_DYNAMIC_DISPATCH(dequantise_add)(codes, high_codes, n, q, x);
}
void spread(const float* values, const std::uint32_t* edges, std::size_t segments, float* out) {
  HWY_DYNAMIC_DISPATCH(spread)(values, edges, segments, out);
}

}  // namespace kvzip::kernels
#endif
