// SPDX-License-Identifier: Apache-2.0
// Rows of elements to floats and back. Elements are little-endian and need no alignment. What the scalar functions of
// kvzip/dtype.hpp give for one value, these give for each, NaN payloads included; but finite values beyond an element
// type's range become its largest.
#pragma once

#include <cstddef>
#include <cstdint>

namespace kvzip::kernels {

void floats_from_f16(const std::byte* in, std::size_t n, float* out);
void floats_from_bf16(const std::byte* in, std::size_t n, float* out);
void floats_from_f64(const std::byte* in, std::size_t n, float* out);
void f16_from_floats(const float* in, std::size_t n, std::byte* out);
void bf16_from_floats(const float* in, std::size_t n, std::byte* out);
void f64_from_floats(const float* in, std::size_t n, std::byte* out);

/// The 8-bit float types: OCP FP8, and with `fnuz` one NaN at 0x80, no -0 and no infinities.
struct Float8 {
  int exponent_bits, mantissa_bits, bias;
  bool fnuz, has_inf;

  /// The largest finite magnitude's bits, without sign.
  std::uint8_t max_bits() const {
    if (fnuz) return 0x7f;
    return has_inf ? 0x7b : 0x7e;
  }
};
void floats_from_f8(const Float8& form, const std::byte* in, std::size_t n, float* out);
void f8_from_floats(const Float8& form, const float* in, std::size_t n, std::byte* out);

}  // namespace kvzip::kernels
