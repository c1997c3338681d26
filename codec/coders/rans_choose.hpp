// SPDX-License-Identifier: Apache-2.0
// What the encoder of `rans` decides from a stream's statistics; a decoder needs only Split and its alphabet.
#pragma once

#include <array>
#include <vector>

#include "codec/coders/rans_tables.hpp"

namespace kvzip {

/// How symbols are split: upper = (symbol >> shift) - base; with escapes, the largest upper part says that the symbol
/// is stored apart.
struct RansSplit {
  unsigned shift = 0;
  std::uint8_t base = 0;
  bool escapes = false;
  unsigned uppers = 2;  // alphabet of the upper part
};

/// Values of symbol >> shift.
inline unsigned rans_cells(std::uint64_t alphabet, unsigned shift) {
  return static_cast<unsigned>(((alphabet - 1) >> shift) + 1);
}

using RansHistogram = std::array<std::uint32_t, 256>;

/// Counts the symbols of all rows, or of enough rows at even distances.
RansHistogram rans_histogram(kernels::RansShape shape, const std::uint8_t* symbols);
/// True when neither the distribution nor repetition down the columns promises anything.
bool rans_looks_random(const Stream& symbols, const RansHistogram& counts);
/// The smallest shift that leaves 16 values, or fewer and hardly any escapes.
RansSplit rans_choose_split(const RansHistogram& counts, std::uint64_t alphabet);
/// Occurrences of each upper part after each other one down the columns, as steps.
std::vector<std::uint8_t> rans_pair_steps(kernels::RansShape shape, const std::uint8_t* upper, unsigned uppers);
/// The low bits' table as steps; empty unless it saves more than itself and 1 % of the low bits of `count` symbols.
std::vector<std::uint8_t> rans_low_steps(const RansHistogram& counts, const RansSplit& split, std::size_t count);
/// What the columns in the middle cost under a model, scaled to all of them, in bits.
double rans_sampled_cost(kernels::RansShape shape, const std::uint8_t* upper, const kernels::RansModel& model);

}  // namespace kvzip
