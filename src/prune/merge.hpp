// SPDX-License-Identifier: Apache-2.0
// Runs of tokens with similar keys that become one token each: KVMerger (arXiv 2407.08454 section 3).
#pragma once

#include "src/prune/keep.hpp"

namespace kvzip::tool {

/// Tokens of which `alike` are the cosines with the token before (the first one's is not used): begins of runs. Of the
/// tokens between the budget's sinks and its window neighbours are joined from the most alike on, of equals the first,
/// until budget.tokens are left in all. `budget` leaves at least one run where there are tokens between.
std::vector<std::uint64_t> choose_runs(std::span<const double> alike, const Budget& budget);

/// For a run with its tokens' distances from the one that stays, 0 of itself: exp(-d^2 / 2 s^2) over the sum of these,
/// where s is the mean distance of the others. What is infinitely far, or not known to be near, weighs nothing.
std::vector<double> merge_weights(std::span<const double> distances);

/// Merges the keys and values of `reader` in runs of their own by sequence, layer or head: keys that share a list are
/// one long vector. Of a run that token stays which scores most, of equals the first.
Kept keep_by_merging(DumpReader& reader, const HeadMap& heads, const std::map<Asking::Layer, LayerScores>& scores,
                     KeepBy by, const Budget& budget);

}  // namespace kvzip::tool
