// SPDX-License-Identifier: Apache-2.0
// Rows of floats to the nearest entries of an ascending codebook and back; see codec/stages/codebook.cpp.
#pragma once

#include <cstddef>
#include <cstdint>

namespace kvzip::kernels {

/// codes[i] = how many of the ascending bounds lie below x[i].
void nearest_entries(const float* x, std::size_t n, const float* bounds, std::size_t count, std::uint8_t* codes);
/// x[i] = entries[codes[i]], never -0.
void entry_values(const std::uint8_t* codes, std::size_t n, const float* entries, float* x);
/// x[i] += entries[codes[i]].
void entry_values_add(const std::uint8_t* codes, std::size_t n, const float* entries, float* x);

}  // namespace kvzip::kernels
