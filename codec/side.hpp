// SPDX-License-Identifier: Apache-2.0
// Side information: numbers that stages store beside the codes (scales, means, factors) in a short float format.
#pragma once

#include <array>
#include <span>
#include <string_view>
#include <vector>

#include "codec/stream.hpp"
#include "kvzip/dtype.hpp"

namespace kvzip {

/// `source`: the dump's own dtype (F64 as f32, 8-bit floats as f16).
enum class NumberFormat : std::uint8_t { f16, bf16, f32, source };
inline constexpr std::array<std::string_view, 4> kNumberFormatNames{"f16", "bf16", "f32", "source"};

/// Rounds `values` to what a reader will see, and writes them as one stream of rows x cols. f16 is preceded by a stream
/// of one byte, a power of two common to all values, which keeps them inside the range of half precision whatever the
/// data (0 for ordinary data). Where one wild value would cost all others their precision, the byte is kWide and the
/// numbers are f32.
void put_numbers(StreamWriter& out, StreamLabel label, std::span<float> values, std::uint32_t rows, std::uint32_t cols,
                 NumberFormat format, DType source);
std::vector<float> get_numbers(StreamReader& in, StreamLabel label, std::uint32_t rows, std::uint32_t cols,
                               NumberFormat format, DType source);

/// Values in the source dtype: exact for values that came from it.
Stream source_stream(StreamLabel label, std::span<const float> values, std::uint32_t rows, std::uint32_t cols,
                     DType source);
std::vector<float> get_source(StreamReader& in, StreamLabel label, std::uint32_t rows, std::uint32_t cols,
                              DType source);

}  // namespace kvzip
