// SPDX-License-Identifier: Apache-2.0
// Classes of magnitudes: up to 7 each its own, beyond that classes of several.
#pragma once

#include <array>
#include <cstdint>

namespace kvzip {

inline constexpr unsigned kMagnitudeClasses = 16;
/// The smallest magnitude of each class, and the bits that tell its members apart.
inline constexpr std::array<std::uint16_t, kMagnitudeClasses> kClassBase{0, 1,  2,  3,  4,  5,  6,  7,
                                                                         8, 10, 12, 16, 24, 32, 64, 320};
inline constexpr std::array<std::uint8_t, kMagnitudeClasses> kClassBits{0, 0, 0, 0, 0, 0, 0, 0,
                                                                        1, 1, 2, 3, 3, 5, 8, 14};
/// The bits beside a symbol: a sign, but not of 0, and those of its class.
inline constexpr std::array<std::uint8_t, kMagnitudeClasses> kStoredBits = [] {
  std::array<std::uint8_t, kMagnitudeClasses> bits{};
  for (std::uint8_t c = 1; c < kMagnitudeClasses; ++c) bits[c] = static_cast<std::uint8_t>(1 + kClassBits[c]);
  return bits;
}();
inline constexpr std::int32_t kLargestMagnitude = 320 + (1 << 14) - 1;

}  // namespace kvzip
