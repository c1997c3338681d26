// SPDX-License-Identifier: Apache-2.0
// Elements to byte planes and back; see codec/stages/planes.cpp.
#pragma once

#include <cstddef>
#include <cstdint>

namespace kvzip::kernels {

/// planes[0] takes the most significant byte of each of n elements of `width` bytes (1, 2, 4 or 8), planes[1] the next;
/// `rotate`: of the elements rotated left by one bit.
void split_planes(const std::byte* in, std::size_t n, unsigned width, bool rotate, std::uint8_t* const* planes);
void join_planes(const std::uint8_t* const* planes, std::size_t n, unsigned width, bool rotate, std::byte* out);

}  // namespace kvzip::kernels
