// SPDX-License-Identifier: Apache-2.0
// Element types and scalar conversions. The 16-bit forms follow IEEE 754 binary16 and bfloat16; the 8-bit forms follow
// the OCP FP8 specification (E4M3 without infinities, E5M2) and the FNUZ variants (bias one larger, one NaN at 0x80, no
// -0, no infinities).
#include "kvzip/dtype.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "codec/fail.hpp"
#include "codec/kernels/convert.hpp"

namespace kvzip {
namespace {

struct Row {
  std::string_view name;
  unsigned bits;
};
constexpr std::array<Row, kDTypeCount> kRows{
    {{"BOOL", 8},    {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6},     {"U8", 8},          {"I8", 8},
     {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"I16", 16},
     {"U16", 16},    {"F16", 16},    {"BF16", 16},   {"I32", 32},        {"U32", 32},        {"F32", 32},
     {"C64", 64},    {"F64", 64},    {"I64", 64},    {"U64", 64}}};

using F8Form = kernels::Float8;
F8Form f8_form(DType dtype) {
  switch (dtype) {
    case DType::f8_e4m3:
      return {4, 3, 7, false, false};
    case DType::f8_e5m2:
      return {5, 2, 15, false, true};
    case DType::f8_e4m3fnuz:
      return {4, 3, 8, true, false};
    case DType::f8_e5m2fnuz:
      return {5, 2, 16, true, false};
    default:
      fail(ErrorCode::invalid_argument, "{} is not an 8-bit float", dtype_name(dtype));
  }
}

std::uint8_t f8_nan(const F8Form& form, bool negative) {
  if (form.fnuz) return 0x80;
  return static_cast<std::uint8_t>((negative ? 0x80 : 0) | 0x7f);
}

float f8_decode(const F8Form& form, std::uint8_t bits) {
  const bool negative = (bits & 0x80) != 0;
  const int magnitude = bits & 0x7f;
  if (form.fnuz && bits == 0x80) return std::numeric_limits<float>::quiet_NaN();
  if (!form.fnuz && magnitude > form.max_bits()) {
    if (form.has_inf && magnitude == 0x7c) {
      return negative ? -std::numeric_limits<float>::infinity() : std::numeric_limits<float>::infinity();
    }
    return std::numeric_limits<float>::quiet_NaN();
  }
  const int exponent = magnitude >> form.mantissa_bits;
  const int mantissa = magnitude & ((1 << form.mantissa_bits) - 1);
  const float value = exponent == 0 ? std::ldexp(static_cast<float>(mantissa), 1 - form.bias - form.mantissa_bits)
                                    : std::ldexp(static_cast<float>(mantissa + (1 << form.mantissa_bits)),
                                                 exponent - form.bias - form.mantissa_bits);
  return negative ? -value : value;
}

struct F8Table {
  std::array<float, 256> value;
};
const F8Table& f8_table(DType dtype) {
  const auto make = [](DType d) {
    F8Table table{};
    const F8Form form = f8_form(d);
    for (unsigned i = 0; i < 256; ++i) table.value[i] = f8_decode(form, static_cast<std::uint8_t>(i));
    return table;
  };
  static const F8Table e4m3 = make(DType::f8_e4m3), e5m2 = make(DType::f8_e5m2), e4m3z = make(DType::f8_e4m3fnuz),
                       e5m2z = make(DType::f8_e5m2fnuz);
  switch (dtype) {
    case DType::f8_e4m3:
      return e4m3;
    case DType::f8_e5m2:
      return e5m2;
    case DType::f8_e4m3fnuz:
      return e4m3z;
    default:
      f8_form(dtype);
      return e5m2z;
  }
}

}  // namespace

static_assert(std::endian::native == std::endian::little, "kvzip handles element bytes in little-endian order");

unsigned dtype_bits(DType dtype) {
  return kRows[static_cast<std::size_t>(dtype)].bits;
}
std::size_t dtype_unit(DType dtype) {
  return std::max(1u, dtype_bits(dtype) / 8);
}
std::string_view dtype_name(DType dtype) {
  return kRows[static_cast<std::size_t>(dtype)].name;
}

std::optional<DType> parse_dtype(std::string_view name) {
  for (std::size_t i = 0; i < kDTypeCount; ++i) {
    if (kRows[i].name == name) return static_cast<DType>(i);
  }
  return std::nullopt;
}

bool is_codable_float(DType dtype) {
  switch (dtype) {
    case DType::f16:
    case DType::bf16:
    case DType::f32:
    case DType::f64:
    case DType::f8_e4m3:
    case DType::f8_e5m2:
    case DType::f8_e4m3fnuz:
    case DType::f8_e5m2fnuz:
      return true;
    default:
      return false;
  }
}

float dtype_max(DType dtype) {
  switch (dtype) {
    case DType::f16:
      return 65504.0f;
    case DType::bf16:
      return bf16_to_float(0x7f7f);
    case DType::f32:
    case DType::f64:
      return std::numeric_limits<float>::max();
    default:
      return f8_to_float(dtype, f8_form(dtype).max_bits());
  }
}

float f16_to_float(std::uint16_t bits) {
  const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000u) << 16;
  const std::uint32_t magnitude = bits & 0x7fffu;
  if (magnitude >= 0x7c00u) return std::bit_cast<float>(sign | 0x7f800000u | ((magnitude & 0x3ffu) << 13));
  // A float with the same exponent and mantissa fields, scaled by 2^112, covers normals and subnormals alike.
  const float value = std::bit_cast<float>(magnitude << 13) * 0x1p112f;
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(value) | sign);
}

std::uint16_t f16_from_float(float value) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = (bits >> 16) & 0x8000u;
  const std::uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<std::uint16_t>(sign | 0x7e00u | ((magnitude >> 13) & 0x3ffu));
  if (magnitude >= 0x477ff000u) return static_cast<std::uint16_t>(sign | 0x7c00u);  // rounds to 65536 or more
  if (magnitude < 0x38800000u) {
    // Subnormal result: adding 0.5 puts the rounding point at 2^-24, the last subnormal bit.
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    return static_cast<std::uint16_t>(sign | (std::bit_cast<std::uint32_t>(shifted) - 0x3f000000u));
  }
  const std::uint32_t rounded = magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u);
  return static_cast<std::uint16_t>(sign | (rounded >> 13));
}

float bf16_to_float(std::uint16_t bits) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

std::uint16_t bf16_from_float(float value) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<std::uint16_t>((bits >> 16) | 0x40u);
  return static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

float f8_to_float(DType dtype, std::uint8_t bits) {
  return f8_table(dtype).value[bits];
}

std::uint8_t f8_from_float(DType dtype, float value) {
  const F8Form form = f8_form(dtype);
  const bool negative = std::signbit(value);
  if (std::isnan(value)) return f8_nan(form, negative);
  const std::uint8_t max_bits = form.max_bits();
  const auto& table = f8_table(dtype).value;
  const float magnitude = std::fabs(value);
  // Magnitudes ascend with their bits, so the nearest is one of two neighbours.
  const auto* end = table.data() + max_bits + 1;
  const auto* above = std::lower_bound(table.data(), end, magnitude);
  std::uint8_t bits;
  if (above == end) {
    const float step = table[max_bits] - table[max_bits - 1];
    if (magnitude < table[max_bits] + step / 2) {
      bits = max_bits;
    } else if (magnitude == table[max_bits] + step / 2 && (max_bits & 1) == 0) {
      bits = max_bits;  // a tie goes to the even neighbour
    } else if (form.has_inf) {
      bits = 0x7c;
    } else {
      return f8_nan(form, negative);
    }
  } else {
    bits = static_cast<std::uint8_t>(above - table.data());
    if (bits > 0 && *above != magnitude) {
      const float down = magnitude - table[bits - 1], up = *above - magnitude;
      if (down < up || (down == up && (bits & 1) != 0)) --bits;
    }
  }
  if (form.fnuz && bits == 0) return 0;
  return static_cast<std::uint8_t>(bits | (negative ? 0x80 : 0));
}

void to_float(DType dtype, std::span<const std::byte> in, std::span<float> out) {
  const std::size_t n = out.size();
  switch (dtype) {
    case DType::f16:
      return kernels::floats_from_f16(in.data(), n, out.data());
    case DType::bf16:
      return kernels::floats_from_bf16(in.data(), n, out.data());
    case DType::f32:
      if (n != 0) std::memcpy(out.data(), in.data(), out.size_bytes());
      return;
    case DType::f64:
      return kernels::floats_from_f64(in.data(), n, out.data());
    default:
      return kernels::floats_from_f8(f8_form(dtype), in.data(), n, out.data());
  }
}

void from_float(DType dtype, std::span<const float> in, std::span<std::byte> out) {
  const std::size_t n = in.size();
  switch (dtype) {
    case DType::f16:
      return kernels::f16_from_floats(in.data(), n, out.data());
    case DType::bf16:
      return kernels::bf16_from_floats(in.data(), n, out.data());
    case DType::f32:
      if (n != 0) std::memcpy(out.data(), in.data(), in.size_bytes());
      return;
    case DType::f64:
      return kernels::f64_from_floats(in.data(), n, out.data());
    default:
      return kernels::f8_from_floats(f8_form(dtype), in.data(), n, out.data());
  }
}

}  // namespace kvzip
