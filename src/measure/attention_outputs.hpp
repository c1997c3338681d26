// SPDX-License-Identifier: Apache-2.0
// What attention over a cache gives, layer by layer.
#pragma once

#include <cstdint>
#include <vector>

#include "src/measure/asking.hpp"
#include "src/measure/page_ranking.hpp"

namespace kvzip::tool {

struct AttendOptions {
  double scale = 0;  // of logits; 0 = 1 / sqrt(head_dim)
  unsigned threads = 0;
  const KvzPages* pages = nullptr;  // given: a query attends to the tokens of `top` pages only
  std::uint64_t top = 0;
};

struct AttentionOutputs {
  std::vector<float> data;     // query heads x queries x channels of a value
  std::uint64_t left_out = 0;  // pairs of a query and a token, see OnlineAttention
  std::uint64_t read = 0;      // tokens whose keys and values were decoded
};

/// Holds the layer's queries and outputs, and one piece of its tokens at a time.
AttentionOutputs attend(Asking& asking, const Asking::Layer& layer, const AttendOptions& options);

}  // namespace kvzip::tool
