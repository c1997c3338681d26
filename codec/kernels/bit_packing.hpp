// SPDX-License-Identifier: Apache-2.0
// Symbols of one byte each to the bits they need, and back.
#pragma once

#include <cstddef>
#include <cstdint>

namespace kvzip::kernels {

/// `width` bits (1 to 8) of each of n symbols below 2^width, least significant first; zeros fill the last byte.
/// (n * width + 7) / 8 bytes.
void pack_bits(const std::uint8_t* symbols, std::size_t n, unsigned width, std::uint8_t* out);
void unpack_bits(const std::uint8_t* in, std::size_t n, unsigned width, std::uint8_t* symbols);
/// The largest symbol; 0 when there is none.
std::uint8_t largest(const std::uint8_t* symbols, std::size_t n);

}  // namespace kvzip::kernels
