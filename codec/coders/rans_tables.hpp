// SPDX-License-Identifier: Apache-2.0
// The tables of the coder `rans`: counts kept as steps of half a power of two, and the bounds they stand for.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "codec/kernels/rans_lanes.hpp"
#include "codec/stream.hpp"

namespace kvzip {

/// Steps: 0 stands for no occurrence, j > 0 for 2^((j - 1) / 2).
inline constexpr unsigned kRansSteps = 64;
inline constexpr double kRansStepBits = 3.5;  // about what one costs in the file
std::uint8_t rans_step(std::uint64_t count);
/// Four times the count a step stands for, 1 for step 0.
std::uint64_t rans_weight(std::uint8_t step);

/// Steps as Rice-coded differences of neighbours: rows of a table rise and fall smoothly.
void rans_put_steps(std::span<const std::uint8_t> steps, Bytes& table);
std::vector<std::uint8_t> rans_get_steps(ByteView table, std::size_t count);

/// Bounds of `symbols` symbols with these weights; each symbol keeps at least 1 of kRansTotal.
kernels::RansBounds rans_bounds(std::span<const std::uint64_t> weights);
/// All symbols alike.
kernels::RansBounds rans_uniform(unsigned symbols);
/// The bounds of each context's row of steps (contexts x symbols, row by row), and of all rows' sum.
void rans_table(std::span<const std::uint8_t> steps, unsigned contexts, unsigned symbols, kernels::RansTable& table,
                kernels::RansBounds& sum);

}  // namespace kvzip
