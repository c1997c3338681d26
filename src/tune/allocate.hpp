// SPDX-License-Identifier: Apache-2.0
// One choice for each of many units, so that the sum of their costs is small and the sum of their weights within a
// limit. Costs and weights are measured ones; nothing is assumed of their shape.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

namespace kvzip::tool {

/// What one choice costs and weighs: bytes and error, or error and bytes. Neither is negative.
struct Choice {
  double cost = 0, weight = 0;
};
using Choices = std::vector<Choice>;  // of one unit; not empty

struct Allocation {
  std::vector<std::size_t> pick;  // of each unit, an index into its choices
  double cost = 0, weight = 0;
};
/// Sums of a pick.
Allocation sum_of(std::span<const Choices> units, std::vector<std::size_t> pick);

/// The dynamic programme of L-GreCo (arXiv 2210.17357, section 3): weights in `buckets` steps of the limit, least cost
/// for each number of steps. Two things differ from its released code, which rounds every weight up and compares
/// strictly, so that even the default of which the limit is made can fall outside it: weights are rounded up and, in a
/// second run, down, where what comes out is checked by its exact sum; and `fallback`, a pick known to be wanted (the
/// uniform default), is returned when nothing else within the limit costs less. No value when no pick at all is within
/// the limit.
std::optional<Allocation> allocate_lgreco(std::span<const Choices> units, double limit,
                                          std::span<const std::size_t> fallback = {}, std::size_t buckets = 10000);

/// Lagrangian search (Shoham and Gersho 1988): every unit follows the lower hull of its choices, the steps of all units
/// taken in the order of weight saved for cost, until the limit is met; what is left of the limit then buys the largest
/// savings that still fit, hull or not. No value when no pick is within the limit.
std::optional<Allocation> allocate_lagrangian(std::span<const Choices> units, double limit);

}  // namespace kvzip::tool
