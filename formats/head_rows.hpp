// SPDX-License-Identifier: Apache-2.0
// Keys, values and queries of a dump as heads of one layer and batch entry, whatever the layout of its tensors.
#pragma once

#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "kvzip/io.hpp"

namespace kvzip {

/// Where some heads lie: a tensor, and its axes other than heads, tokens and channels held fixed.
struct HeadRows {
  std::size_t tensor = 0;
  Axes axes;
  std::vector<std::uint64_t> fixed;  // an index for each axis that is held
  std::uint64_t heads = 1, tokens = 0, dims = 1;

  /// heads x count x dims floats of the tokens from `first` on. `in` is this tensor's place in `reader`'s dump.
  void read(DumpReader& reader, std::size_t in, std::uint64_t first, std::uint64_t count,
            std::vector<float>& out) const;
  /// The same of some tokens, whose numbers ascend.
  std::vector<float> pick(DumpReader& reader, std::size_t in, const std::vector<std::uint64_t>& tokens) const;
};

struct LayerHeads {
  std::vector<HeadRows> keys, values, queries;
};
/// Attention needs one tensor of keys and one of values that belong together; a layer of an MLA cache has other things.
bool pairs_up(const LayerHeads& layer);
/// By layer and batch entry. Tensors without a layer are of layer 0; empty tensors are left out. Where heads are merged
/// (axis C), `head_dim` channels are one, or the model's number of heads divides them, or all are one head.
using HeadMap = std::map<std::pair<std::uint32_t, std::uint64_t>, LayerHeads>;
HeadMap find_heads(const Dump& dump, const Recognition& recognition, std::uint64_t head_dim);

/// Tokens that are read together where `chunk` of them are coded together: whole frames as far as that goes, so that
/// each is decoded once, in multiples of 128, so that sums do not depend on how a container is cut.
std::uint64_t tokens_at_a_time(std::uint64_t chunk, std::uint64_t channels, std::uint64_t tokens);

}  // namespace kvzip
