// SPDX-License-Identifier: Apache-2.0
// Pure loops over float rows: no allocation, no exception, no I/O. Each is written so that lanes are independent, which
// lets every compiler vectorise it without changing a result.
#pragma once

#include <cstddef>
#include <cstdint>

namespace kvzip::kernels {

bool all_finite(const float* x, std::size_t n);

/// Smallest and largest of n values, starting from *low and *high. No NaN.
void min_max(const float* x, std::size_t n, float* low, float* high);
/// The same, column by column: low[i], high[i] take x[i].
void min_max_columns(const float* x, std::size_t n, float* low, float* high);

/// How one column of a quantiser turns values into codes and back; see codec/stages/quant.cpp.
struct QuantColumns {
  const float *offset, *divisor, *factor;  // code = round(clamp((x - offset) / divisor * factor + zero))
  const float *scale, *low;                // value = (code - zero) / unit * scale + low
  float zero, unit, top;                   // codes lie in [0, top]
};
/// codes[i] = low byte of the code, high_codes[i] = high byte unless null; approximation[i] = the value it stands for.
void quantise(const float* x, std::size_t n, const QuantColumns& q, std::uint8_t* codes, std::uint8_t* high_codes,
              float* approximation);
/// x[i] += value of a code.
void dequantise_add(const std::uint8_t* codes, const std::uint8_t* high_codes, std::size_t n, const QuantColumns& q,
                    float* x);

/// `width` bits of each symbol, least significant first, and back; width is 1, 2, 4 or 8 and n a multiple of 8 / width.
void pack_bits(const std::uint8_t* symbols, std::size_t n, unsigned width, std::uint8_t* out);
void unpack_bits(const std::uint8_t* in, std::size_t n, unsigned width, std::uint8_t* symbols);

}  // namespace kvzip::kernels
