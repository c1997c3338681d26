// SPDX-License-Identifier: Apache-2.0
// Rows of floats to the codes of a uniform quantiser and back; see codec/stages/quant.cpp.
#pragma once

#include <cstddef>
#include <cstdint>

namespace kvzip::kernels {

/// How the columns of a row turn values into codes and back. Codes lie in [0, top]:
///   code = round(clamp((x - low) / step + zero)), or with `multiply` round(clamp((x - low) * step + zero))
///   value = (code - zero) / unit * scale + low
struct QuantColumns {
  const float *low, *step, *scale;
  bool multiply;
  float zero, unit, top;
};
/// codes[i] = low byte of the code, high_codes[i] = high byte unless null.
void quantise(const float* x, std::size_t n, const QuantColumns& q, std::uint8_t* codes, std::uint8_t* high_codes);
/// x[i] = value of a code, never -0.
void dequantise(const std::uint8_t* codes, const std::uint8_t* high_codes, std::size_t n, const QuantColumns& q,
                float* x);
/// x[i] += value of a code.
void dequantise_add(const std::uint8_t* codes, const std::uint8_t* high_codes, std::size_t n, const QuantColumns& q,
                    float* x);

/// out[edges[s]] to out[edges[s + 1]] = values[s]. Edges ascend from 0; up to kSpreadSlack floats after the last edge
/// are overwritten.
inline constexpr std::size_t kSpreadSlack = 16;
void spread(const float* values, const std::uint32_t* edges, std::size_t segments, float* out);

}  // namespace kvzip::kernels
