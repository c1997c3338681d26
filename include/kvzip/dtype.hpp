// SPDX-License-Identifier: Apache-2.0
// Element types: the names of the safetensors specification, and scalar conversions to and from float.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace kvzip {

using Bytes = std::vector<std::byte>;
using ByteView = std::span<const std::byte>;

/// Numeric values are part of no file: files carry the names.
enum class DType : std::uint8_t {
  boolean,
  f4,
  f6_e2m3,
  f6_e3m2,
  u8,
  i8,
  f8_e5m2,
  f8_e4m3,
  f8_e8m0,
  f8_e4m3fnuz,
  f8_e5m2fnuz,
  i16,
  u16,
  f16,
  bf16,
  i32,
  u32,
  f32,
  c64,
  f64,
  i64,
  u64,
};
inline constexpr std::size_t kDTypeCount = 22;

/// Bits of one element: 4 (F4), 6 (F6_*), 8, 16, 32 or 64.
unsigned dtype_bits(DType dtype);
/// Bytes of one element; 1 for the sub-byte types, whose data is handled as bytes.
std::size_t dtype_unit(DType dtype);
/// The safetensors name: "F16", "BF16", "F8_E4M3", "BOOL", ...
std::string_view dtype_name(DType dtype);
std::optional<DType> parse_dtype(std::string_view name);
/// True for the types a lossy pipeline can take: F16 BF16 F32 F64 F8_E4M3 F8_E5M2 F8_E4M3FNUZ F8_E5M2FNUZ.
bool is_codable_float(DType dtype);
/// Largest finite value of a codable float type (for F64: the largest float).
float dtype_max(DType dtype);

// Scalar conversions. Rounding is to nearest, ties to even; the *_from_float functions give the type's own
// overflow result (infinity where the type has one, NaN for F8_E4M3*).
float f16_to_float(std::uint16_t bits);
std::uint16_t f16_from_float(float value);
float bf16_to_float(std::uint16_t bits);
std::uint16_t bf16_from_float(float value);
float f8_to_float(DType dtype, std::uint8_t bits);
std::uint8_t f8_from_float(DType dtype, float value);

/// Converts little-endian elements to float. `in` holds out.size() elements of a codable type.
/// F64 values are rounded to float; NaN, infinities and -0 are kept.
void to_float(DType dtype, std::span<const std::byte> in, std::span<float> out);
/// Converts floats to elements; finite values beyond the type's range become its largest finite value.
void from_float(DType dtype, std::span<const float> in, std::span<std::byte> out);

}  // namespace kvzip
