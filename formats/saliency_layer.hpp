// SPDX-License-Identifier: Apache-2.0
// What the queries of one layer say of its tokens: the weights of kvzip/saliency.hpp before floor and logarithm.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "codec/rotary.hpp"
#include "formats/head_rows.hpp"

namespace kvzip {

/// Keys and values of a layer that pair up.
struct SaliencyLayer {
  /// Of each head's tokens, ascending; empty where one follows the other from `first_position` on.
  using Positions = std::vector<std::vector<std::uint64_t>>;

  DumpReader& reader;
  const HeadRows &keys, &values;
  std::uint64_t first_position = 0;   // of token 0
  const Rotary* turn = nullptr;       // by which keys are turned before they are asked
  const Rotary* turn_back = nullptr;  // by which they are turned back to have their variance taken
  unsigned threads = 0;
  std::uint64_t window = 0;  // tokens that a query sees, its own among them; 0 = all up to its own
  Positions positions{};

  std::uint64_t position(std::size_t head, std::uint64_t token) const {
    return positions.empty() ? first_position + token : positions[head][token];
  }
};

/// Queries of it, turned as its keys are: heads x positions.size() x channels. Positions ascend.
struct SaliencyQueries {
  std::span<const float> rows;
  std::span<const std::uint64_t> positions;
  std::size_t heads = 1;  // a multiple of the layer's
};

/// The first tokens, whose keys and values are unlike the others'.
inline constexpr std::uint64_t kSinkTokens = 4;

/// Queries that are nearer than this to a token say nothing of it: what it is to its neighbours ends with them, and
/// what reads a cache comes later. It would also drown the rest where only some queries ask.
inline constexpr std::uint64_t kNearestQuery = 16;

/// By head, then token; NaN where a token is left out.
struct TokenWeights {
  std::vector<std::vector<double>> keys, values;
};
TokenWeights weigh_tokens(const SaliencyLayer& layer, const SaliencyQueries& queries);

/// |v|^2 of each token by head; NaN where it is left out.
std::vector<std::vector<double>> value_squares(const SaliencyLayer& layer);

}  // namespace kvzip
