// SPDX-License-Identifier: Apache-2.0
#include "codec/magnitudes.hpp"

#include <bit>

#include "codec/bits.hpp"

namespace kvzip {
namespace {

/// By magnitude up to 63; beyond only two classes are left.
constexpr std::array<std::uint8_t, 64> kClassOf = [] {
  std::array<std::uint8_t, 64> of{};
  for (unsigned m = 0; m < of.size(); ++m) {
    for (std::uint8_t c = 0; c < kMagnitudeClasses; ++c) {
      if (kClassBase[c] <= m) of[m] = c;
    }
  }
  return of;
}();

/// A sign, but not of 0, and the bits that a class leaves open. No branch on what cannot be foreseen.
constexpr std::array<std::uint8_t, kMagnitudeClasses> kStoredBits = [] {
  std::array<std::uint8_t, kMagnitudeClasses> bits{};
  for (std::uint8_t c = 1; c < kMagnitudeClasses; ++c) bits[c] = static_cast<std::uint8_t>(1 + kClassBits[c]);
  return bits;
}();

std::uint8_t class_of(unsigned magnitude) {
  if (magnitude < kClassOf.size()) return kClassOf[magnitude];
  return magnitude < kClassBase[15] ? 14 : 15;
}

void write_values(const std::vector<std::int16_t>& values, Stream& classes, Stream& bits) {
  classes.allocate();
  ByteWriter out;
  BitWriter writer(out);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto magnitude = static_cast<unsigned>(values[i] < 0 ? -values[i] : values[i]);
    const std::uint8_t c = class_of(magnitude);
    classes.data[i] = c;
    const unsigned inside = magnitude - kClassBase[c];
    writer.put(inside << 1 | (values[i] < 0 ? 1u : 0u), kStoredBits[c]);
  }
  writer.close();
  const auto* data = reinterpret_cast<const std::uint8_t*>(out.view().data());
  bits.data.assign(data, data + out.size());
  bits.cols = static_cast<std::uint32_t>(out.size());
}

void read_values(const Stream& classes, const Stream& bits, std::vector<std::int16_t>& values) {
  BitReader reader(std::as_bytes(std::span(bits.data)));
  values.resize(classes.data.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::uint8_t c = classes.data[i];
    const std::uint32_t b = reader.get(kStoredBits[c]);
    const auto magnitude = static_cast<int>(kClassBase[c] + (b >> 1)), sign = -static_cast<int>(b & 1);
    values[i] = static_cast<std::int16_t>((magnitude ^ sign) - sign);
  }
  reader.close();
}

}  // namespace

void pass_magnitudes(StreamPort& port, std::uint32_t rows, std::uint32_t cols, const std::vector<std::int8_t>& gains,
                     std::vector<std::int16_t>& values) {
  Stream classes = symbol_stream(StreamLabel::codes, rows, cols, kMagnitudeClasses);
  classes.magnitudes = true;
  classes.gains = gains;
  Stream bits = byte_stream(StreamLabel::codes);
  if (port.writes()) write_values(values, classes, bits);
  port.pass(classes);
  port.pass(bits);
  if (!port.writes()) read_values(classes, bits, values);
}

}  // namespace kvzip
