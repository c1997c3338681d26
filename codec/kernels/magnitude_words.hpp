// SPDX-License-Identifier: Apache-2.0
// Values to classes of magnitudes and the bits beside them (codec/magnitudes.hpp), and back.
#pragma once

#include <cstddef>
#include <cstdint>

namespace kvzip::kernels {

/// Values whose bits a word holds, the first one's lowest: each has 15 at most.
inline constexpr std::size_t kJoined = 4;

/// Of `words` times kJoined values: their classes, their bits, and how many these are.
void magnitude_classes(const std::int16_t* values, std::size_t words, std::uint8_t* classes, std::uint64_t* bits,
                       std::uint64_t* counts);
/// How many bits belong to each kJoined classes.
void magnitude_counts(const std::uint8_t* classes, std::size_t words, std::uint32_t* counts);
/// Values of classes, which are below 16, and bits. What is above a word's own bits means nothing.
void magnitude_values(const std::uint8_t* classes, const std::uint64_t* bits, std::size_t words, std::int16_t* values);

}  // namespace kvzip::kernels
