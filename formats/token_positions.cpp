// SPDX-License-Identifier: Apache-2.0
#include "formats/token_positions.hpp"

#include <algorithm>
#include <numeric>

#include "codec/fail.hpp"

namespace kvzip {

TokenPositions::TokenPositions(DumpReader& cache, const HeadMap& heads, std::uint64_t first, Odd odd,
                               std::span<const std::uint64_t> starts)
    : first_(first) {
  std::vector<std::pair<Layer, const LayerHeads*>> layers;
  for (const auto& [layer, place] : heads) {
    if (!starts.empty() && !place.keys.empty() && starts[place.keys[0].tensor] > 0) {
      starts_.emplace(layer, starts[place.keys[0].tensor]);
    }
    if (!pairs_up(place)) continue;
    layers.emplace_back(layer, &place);
    list_tokens_ = std::max(list_tokens_, place.keys[0].tokens);
    if (layer_numbers_.empty() || layer_numbers_.back() != layer.first) layer_numbers_.push_back(layer.first);
  }
  const std::vector<TensorInfo>& tensors = cache.dump().tensors;
  for (std::size_t i = 0; i < tensors.size() && !layers.empty() && !stored_; ++i) {
    stored_ = tensors[i].name == kPositionsName && read(cache, layers, i, odd);
  }
}

/// False for a tensor of another type, which says something else, and where `odd` allows it for one of other tokens.
bool TokenPositions::read(DumpReader& cache, const std::vector<std::pair<Layer, const LayerHeads*>>& layers,
                          std::size_t tensor, Odd odd) {
  const TensorInfo& info = cache.dump().tensors[tensor];
  if (info.dtype != DType::i64) return false;
  const auto other_tokens = [&] {
    if (odd == Odd::refuse) {
      fail(ErrorCode::invalid_argument,
           "{} says where the tokens of a whole dump stood, and these keys are a part of it, or another", info.name);
    }
    return false;
  };
  const HeadRows& keys = layers[0].second->keys[0];
  std::uint64_t batch = 0;
  for (const auto& [layer, place] : layers) {
    batch = std::max(batch, layer.second + 1);
    if (place->keys[0].tokens != keys.tokens) return other_tokens();
  }
  const std::array<std::uint64_t, 3> full{batch, layer_numbers_.size(), keys.heads};
  std::vector<std::uint64_t> want;
  std::array<std::uint64_t, 3> lists{batch, 1, 1};
  if (batch > 1) want.push_back(batch);
  for (std::size_t a = 1; a < 3 && want.size() + 1 < info.shape.size(); ++a) {
    lists[a] = full[a];
    want.push_back(full[a]);
  }
  for (const auto& [layer, place] : layers) {
    if (lists[2] > 1 && place->keys[0].heads != lists[2]) return other_tokens();
  }
  want.push_back(keys.tokens);
  if (info.shape != want) return other_tokens();
  Bytes bytes(info.bytes());
  cache.read({tensor, std::vector<std::uint64_t>(want.size(), 0), want}, bytes);
  std::vector<std::uint64_t> positions(info.elements());
  for (std::size_t i = 0; i < positions.size(); ++i) {
    std::uint64_t token = 0;
    for (unsigned byte = 8; byte-- > 0;) token = token << 8 | std::to_integer<std::uint64_t>(bytes[i * 8 + byte]);
    if (token >> 62 != 0 || (i % keys.tokens != 0 && first_ + token <= positions[i - 1])) {
      if (odd == Odd::ignore) return false;
      fail(ErrorCode::invalid_argument, "{}: the positions of tokens do not ascend from 0 or more", info.name);
    }
    positions[i] = first_ + token;
  }
  lists_ = lists;
  positions_ = std::move(positions);
  return true;
}

std::vector<std::uint64_t> TokenPositions::of(const Layer& layer, std::uint64_t head, std::uint64_t from,
                                              std::uint64_t count) const {
  std::vector<std::uint64_t> out(count);
  if (!stored_) {
    std::iota(out.begin(), out.end(), first_of(layer) + from);
    return out;
  }
  const auto number = std::lower_bound(layer_numbers_.begin(), layer_numbers_.end(), layer.first);
  const auto index = static_cast<std::uint64_t>(number - layer_numbers_.begin());
  const std::uint64_t batch = lists_[0] > 1 ? layer.second : 0;
  const std::uint64_t list = (batch * lists_[1] + (lists_[1] > 1 ? index : 0)) * lists_[2] + (lists_[2] > 1 ? head : 0);
  const auto begin = positions_.begin() + static_cast<std::ptrdiff_t>(list * list_tokens_ + from);
  std::copy_n(begin, count, out.begin());
  return out;
}

void TokenPositions::turn(const Rotary& rotary, const Layer& layer, std::uint64_t head, std::uint64_t from,
                          std::uint64_t count, std::size_t dims, float* keys, int sign) const {
  if (!stored_) return rotary.turn(first_of(layer) + from, sign, count, 1, dims, keys);
  const std::vector<std::uint64_t> at = of(layer, head, from, count);
  for (std::size_t t = 0; t < count; ++t) rotary.turn(at[t], sign, 1, 1, dims, keys + t * dims);
}

std::uint64_t TokenPositions::first_of(const Layer& layer) const {
  const auto start = starts_.find(layer);
  return first_ + (start == starts_.end() ? 0 : start->second);
}

std::uint64_t TokenPositions::behind(std::uint64_t tokens) const {
  if (!stored_ || tokens == 0) return first_ + tokens;
  std::uint64_t out = 0;
  for (std::size_t i = std::min(tokens, list_tokens_) - 1; i < positions_.size(); i += list_tokens_)
    out = std::max(out, positions_[i] + 1);
  return out;
}

}  // namespace kvzip
