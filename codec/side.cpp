// SPDX-License-Identifier: Apache-2.0
#include "codec/side.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

#include "kvzip/error.hpp"

namespace kvzip {
namespace {

DType stored_type(NumberFormat format, DType source) {
  switch (format) {
    case NumberFormat::f16:
      return DType::f16;
    case NumberFormat::bf16:
      return DType::bf16;
    case NumberFormat::f32:
      return DType::f32;
    case NumberFormat::source:
      break;
  }
  if (source == DType::f64) return DType::f32;
  return dtype_bits(source) == 8 ? DType::f16 : source;
}

constexpr int kWide = -128;       // instead of a power of two: the numbers are f32
constexpr int kLargestShift = 8;  // beyond 2^23 a value leaves too little of half precision to the others

/// The power of two that brings values into half precision's normal range: 0 when they are there already, kWide
/// when no power serves all.
int half_exponent(std::span<const float> values) {
  std::uint32_t most = 0, least = 0xffffffff;  // magnitudes ascend with their bits; 0 - 1 is above all of them
  for (const float v : values) {
    const std::uint32_t m = std::bit_cast<std::uint32_t>(v) & 0x7fffffff;
    most = m > most ? m : most;
    least = m - 1 < least ? m - 1 : least;
  }
  const float largest = std::bit_cast<float>(most), smallest = most == 0 ? 0 : std::bit_cast<float>(least + 1);
  if (largest <= 65504.0f && (smallest == 0 || smallest >= 0x1p-14f)) return 0;
  if (!std::isfinite(largest)) return kWide;
  const int exponent = std::ilogb(largest) - 14;  // the largest value lands in [2^14, 2^15)
  return exponent > kLargestShift ? kWide : std::max(exponent, -127);
}

/// ldexp, for exponents from -127 to 127: 2^exponent is a float, and a product with it is rounded as ldexp rounds.
void scale_by_power(std::span<float> values, int exponent) {
  const float factor = std::ldexp(1.0f, exponent);
  for (float& v : values) v *= factor;
}

/// `rounds`: writing leaves in `values` what a reader will see.
void pass_floats(StreamPort& port, NumberShape shape, DType type, std::vector<float>& values, bool rounds) {
  Stream s = element_stream(shape.label, shape.rows, shape.cols, dtype_unit(type));
  if (port.writes()) {
    s.data.resize(values.size() * s.width);
    from_float(type, values, std::as_writable_bytes(std::span(s.data)));
    if (rounds) to_float(type, std::as_bytes(std::span(s.data)), values);
  }
  port.pass(s);
  if (port.writes()) return;
  values.resize(s.count());
  to_float(type, std::as_bytes(std::span(s.data)), values);
}

}  // namespace

void pass_numbers(StreamPort& port, NumberShape shape, NumberFormat format, DType source, std::vector<float>& values) {
  const DType type = stored_type(format, source);
  if (type != DType::f16) return pass_floats(port, shape, type, values, true);
  int exponent = port.writes() ? half_exponent(values) : 0;
  auto stored = static_cast<std::uint8_t>(exponent);
  pass_integer(port, StreamLabel::flags, stored);
  exponent = static_cast<std::int8_t>(stored);
  if (exponent == kWide) return pass_floats(port, shape, DType::f32, values, true);
  if (port.writes() && exponent != 0) scale_by_power(values, -exponent);
  pass_floats(port, shape, type, values, true);
  if (exponent != 0) scale_by_power(values, exponent);
}

void pass_source(StreamPort& port, NumberShape shape, DType source, std::vector<float>& values) {
  pass_floats(port, shape, source, values, false);
}

}  // namespace kvzip
