// SPDX-License-Identifier: Apache-2.0
// Side information: numbers that stages store beside the codes (scales, means, factors, counts). Each function serves
// both ends of a stage's streams: a writer stores `values`, a reader replaces them by what was stored.
#pragma once

#include <array>
#include <span>
#include <string_view>
#include <type_traits>
#include <vector>

#include "codec/stream.hpp"
#include "kvzip/dtype.hpp"

namespace kvzip {

/// `source`: the dump's own dtype (F64 as f32, 8-bit floats as f16).
enum class NumberFormat : std::uint8_t { f16, bf16, f32, source };
inline constexpr std::array<std::string_view, 4> kNumberFormatNames{"f16", "bf16", "f32", "source"};

struct NumberShape {
  StreamLabel label;
  std::uint32_t rows, cols;
};

/// One stream of rows x cols numbers in a short float format. Writing rounds `values` to what a reader will see. f16 is
/// preceded by a stream of one byte, a power of two common to all values, which keeps them inside the range of half
/// precision whatever the data (0 for ordinary data). Where one wild value would cost all others their precision, the
/// byte is kWide and the numbers are f32.
void pass_numbers(StreamPort& port, NumberShape shape, NumberFormat format, DType source, std::vector<float>& values);

/// Values in the source dtype: exact for values that came from it.
void pass_source(StreamPort& port, NumberShape shape, DType source, std::vector<float>& values);

/// values.size() unsigned integers in one row, as many when reading.
template <typename T>
void pass_integers(StreamPort& port, StreamLabel label, std::span<T> values) {
  static_assert(std::is_unsigned_v<T>);
  Stream s = element_stream(label, 1, static_cast<std::uint32_t>(values.size()), sizeof(T));
  if (port.writes()) {
    for (const T v : values) {
      for (std::size_t byte = 0; byte < sizeof(T); ++byte) {
        s.data.push_back(static_cast<std::uint8_t>(std::uint64_t{v} >> 8 * byte));
      }
    }
  }
  port.pass(s);
  if (port.writes()) return;
  for (std::size_t i = 0; i < values.size(); ++i) {
    std::uint64_t v = 0;
    for (std::size_t byte = 0; byte < sizeof(T); ++byte) v |= std::uint64_t{s.data[i * sizeof(T) + byte]} << 8 * byte;
    values[i] = static_cast<T>(v);
  }
}
template <typename T>
void pass_integer(StreamPort& port, StreamLabel label, T& value) {
  pass_integers(port, label, std::span(&value, 1));
}

}  // namespace kvzip
