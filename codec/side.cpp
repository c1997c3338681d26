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
  const int exponent = std::ilogb(largest) - 14;  // the largest value lands in [2^14, 2^15)
  return exponent > kLargestShift ? kWide : std::max(exponent, -127);
}

/// ldexp, for exponents from -127 to 127: 2^exponent is a float, and a product with it is rounded as ldexp rounds.
void scale_by_power(std::span<float> values, int exponent) {
  const float factor = std::ldexp(1.0f, exponent);
  for (float& v : values) v *= factor;
}

Stream elements(StreamLabel label, std::uint32_t rows, std::uint32_t cols, DType type) {
  Stream s;
  s.label = label;
  s.type = StreamType::elements;
  s.rows = rows;
  s.cols = cols;
  s.width = static_cast<std::uint32_t>(dtype_unit(type));
  return s;
}

Stream filled(StreamLabel label, std::span<const float> values, std::uint32_t rows, std::uint32_t cols, DType type) {
  Stream s = elements(label, rows, cols, type);
  s.data.resize(values.size() * s.width);
  from_float(type, values, std::as_writable_bytes(std::span(s.data)));
  return s;
}

std::vector<float> fetched(StreamReader& in, StreamLabel label, std::uint32_t rows, std::uint32_t cols, DType type) {
  Stream s = elements(label, rows, cols, type);
  in.get(s);
  std::vector<float> values(s.count());
  to_float(type, std::as_bytes(std::span(s.data)), values);
  return values;
}

}  // namespace

void put_numbers(StreamWriter& out, StreamLabel label, std::span<float> values, std::uint32_t rows, std::uint32_t cols,
                 NumberFormat format, DType source) {
  DType type = stored_type(format, source);
  int exponent = 0;
  if (type == DType::f16) {
    exponent = half_exponent(values);
    Stream s = elements(StreamLabel::flags, 1, 1, DType::i8);
    s.data.push_back(static_cast<std::uint8_t>(exponent));
    out.put(std::move(s));
    if (exponent == kWide) {
      type = DType::f32;
      exponent = 0;
    }
    if (exponent != 0) scale_by_power(values, -exponent);
  }
  Stream s = filled(label, values, rows, cols, type);
  to_float(type, std::as_bytes(std::span(s.data)), values);
  if (exponent != 0) scale_by_power(values, exponent);
  out.put(std::move(s));
}

std::vector<float> get_numbers(StreamReader& in, StreamLabel label, std::uint32_t rows, std::uint32_t cols,
                               NumberFormat format, DType source) {
  DType type = stored_type(format, source);
  int exponent = 0;
  if (type == DType::f16) {
    Stream s = elements(StreamLabel::flags, 1, 1, DType::i8);
    in.get(s);
    exponent = static_cast<std::int8_t>(s.data.at(0));
    if (exponent == kWide) {
      type = DType::f32;
      exponent = 0;
    }
  }
  std::vector<float> values = fetched(in, label, rows, cols, type);
  if (exponent != 0) scale_by_power(values, exponent);
  return values;
}

Stream source_stream(StreamLabel label, std::span<const float> values, std::uint32_t rows, std::uint32_t cols,
                     DType source) {
  return filled(label, values, rows, cols, source);
}

std::vector<float> get_source(StreamReader& in, StreamLabel label, std::uint32_t rows, std::uint32_t cols,
                              DType source) {
  return fetched(in, label, rows, cols, source);
}

}  // namespace kvzip
