// SPDX-License-Identifier: Apache-2.0
// Signed integers as symbols for a coder and plain bits beside them. A magnitude's class is its symbol; the sign of
// what is not zero and the place inside a class of several follow as bits.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "codec/stream.hpp"

namespace kvzip {

inline constexpr unsigned kMagnitudeClasses = 16;
/// The smallest magnitude of each class, and the bits that tell its members apart.
inline constexpr std::array<std::uint16_t, kMagnitudeClasses> kClassBase{0, 1,  2,  3,  4,  5,  6,  7,
                                                                         8, 10, 12, 16, 24, 32, 64, 320};
inline constexpr std::array<std::uint8_t, kMagnitudeClasses> kClassBits{0, 0, 0, 0, 0, 0, 0, 0,
                                                                        1, 1, 2, 3, 3, 5, 8, 14};
inline constexpr std::int32_t kLargestMagnitude = 320 + (1 << 14) - 1;

/// rows x cols integers of at most kLargestMagnitude either way, as two streams: classes, and bits row by row. `gains`,
/// one a row, say by how many half octaves its values were multiplied before they were rounded: coders expect larger
/// magnitudes where gains are. Empty: none.
void pass_magnitudes(StreamPort& port, std::uint32_t rows, std::uint32_t cols, const std::vector<std::int8_t>& gains,
                     std::vector<std::int16_t>& values);

}  // namespace kvzip
