// SPDX-License-Identifier: Apache-2.0
// Which tokens of a cache stay.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "src/prune/token_scores.hpp"

namespace kvzip::tool {

/// What has tokens of its own.
enum class KeepBy : std::uint8_t { sequence, layer, head };

/// The first `sinks` and the last `window` tokens always stay; of the others those that score most, so that `tokens`
/// stay in all.
struct Budget {
  std::uint64_t tokens = 0, sinks = 0, window = 0;
};

struct Kept {
  KeepBy by = KeepBy::sequence;
  std::uint64_t tokens = 0;  // of each list
  /// Batch entry, layer and head; layer and head are 0 where one list serves all.
  using Place = std::array<std::uint64_t, 3>;
  std::map<Place, std::vector<std::uint64_t>> lists;  // ascending

  /// What becomes one token each: those from one of `begins` up to the next, as many as the list has, in the same
  /// order; the number of all tokens is the last. A run's weights add up to 1. There are none where tokens stay as they
  /// are.
  struct Runs {
    std::vector<std::uint64_t> begins;
    std::vector<double> weights;  // of all tokens
  };
  std::map<Place, Runs> runs{};

  static Place place(KeepBy by, std::uint64_t batch, std::uint64_t layer, std::uint64_t head) {
    return {batch, by == KeepBy::sequence ? 0 : layer, by == KeepBy::head ? head : 0};
  }
  const std::vector<std::uint64_t>& of(std::uint64_t batch, std::uint64_t layer, std::uint64_t head) const {
    return lists.at(place(by, batch, layer, head));
  }
};

/// Of equal scores the earlier token stays. `budget` fits the tokens.
std::vector<std::uint64_t> choose_tokens(std::span<const double> scores, const Budget& budget);

/// The tokens that every layer of the map has; fail(invalid_argument) when they differ.
std::uint64_t common_tokens(const HeadMap& heads);

/// Scores of heads, or of heads and layers, are added up where they share a list.
std::map<Kept::Place, std::vector<double>> add_scores(const std::map<Asking::Layer, LayerScores>& scores, KeepBy by);
Kept keep_by_scores(const std::map<Asking::Layer, LayerScores>& scores, KeepBy by, const Budget& budget);
/// The same list for all.
Kept keep_same(const HeadMap& heads, const std::vector<std::uint64_t>& tokens);

/// A mask as text: a digit for each token, 1 for those that stay, with white space anywhere. The tokens that stay;
/// fail(invalid_argument) for anything else.
std::vector<std::uint64_t> parse_mask(std::string_view text, std::uint64_t tokens);

}  // namespace kvzip::tool
