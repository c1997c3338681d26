// SPDX-License-Identifier: Apache-2.0
// The exact stage's functions: elements to byte planes and back.
#pragma once

#include <span>
#include <vector>

#include "codec/stream.hpp"
#include "kvzip/dtype.hpp"

namespace kvzip {

/// One stream of rows x cols bytes per byte of an element, most significant byte first.
std::vector<Stream> split_planes(ByteView elements, DType dtype, std::uint32_t rows, std::uint32_t cols,
                                 std::uint32_t head_dim);
void join_planes(StreamReader& in, DType dtype, std::uint32_t rows, std::uint32_t cols, std::uint32_t head_dim,
                 std::span<std::byte> elements);

}  // namespace kvzip
