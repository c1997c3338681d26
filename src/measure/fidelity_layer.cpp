// SPDX-License-Identifier: Apache-2.0
#include "src/measure/fidelity_layer.hpp"

#include <algorithm>
#include <cmath>

#include "formats/parallel.hpp"
#include "kvzip/container.hpp"

namespace kvzip::tool {

PairSums::PairSums(const Rope& rope, std::size_t dims) : energy_(dims), error_(dims) {
  const bool known = rope.state == Rope::State::pre || rope.state == Rope::State::post || rope.theta != 0;
  const std::size_t all = rope.dims == 0 ? dims : std::min<std::size_t>(rope.dims, dims);
  const std::size_t half = rope.state == Rope::State::none || !known ? 0 : all / 2;
  for (std::size_t c = 0; c < dims; ++c) {
    if (c >= 2 * half) {
      pair_.push_back(c);
    } else {
      pair_.push_back(rope.layout == Rope::Layout::interleaved ? c / 2 * 2 : c % half);
    }
  }
}

void PairSums::add(const float* key, const float* decoded, std::size_t tokens) {
  for (std::size_t t = 0; t < tokens; ++t) {
    for (std::size_t c = 0; c < pair_.size(); ++c, ++key, ++decoded) {
      if (!std::isfinite(*key) || !std::isfinite(*decoded)) continue;
      const double x = *key, e = x - *decoded;
      energy_[pair_[c]] += x * x;
      error_[pair_[c]] += e * e;
    }
  }
}

void PairSums::finish(Proxy& proxy) const {
  for (std::size_t i = 0; i < pair_.size(); ++i) {
    proxy.pair_error += energy_[i] * error_[i];
    proxy.pair_energy += energy_[i] * energy_[i];
  }
}

/// heads x count x channels of both sides.
struct LayerRun::Block {
  std::uint64_t first = 0, count = 0, coded = 0;  // coded: of these tokens the first, which were decoded
  std::size_t key_dims = 0, value_dims = 0;       // 0: none
  std::vector<float> keys, values, decoded_keys, decoded_values;

  static std::span<float> of(std::vector<float>& x, std::size_t head, std::size_t each) {
    return std::span(x).subspan(head * each, each);
  }
};

std::vector<HeadFidelity> LayerRun::run(std::pair<std::uint32_t, std::uint64_t> layer, const LayerHeads& place) {
  const auto count = [](const std::vector<HeadRows>& list) {
    std::uint64_t heads = 0;
    for (const HeadRows& rows : list) heads += rows.heads;
    return heads;
  };
  heads_.assign(std::max(count(place.keys), count(place.values)), {});
  layer_ = layer;
  attention_ = s_.model.attention(layer.first);
  const auto turned = s_.rotary.find(layer.first);
  rotary_ = turned == s_.rotary.end() ? nullptr : &turned->second;
  const auto ring = s_.turns.find(layer);
  turn_ = ring == s_.turns.end() ? 0 : ring->second;
  if (pairs_up(place)) {
    if (!s_.mixed.contains(layer) && s_.split_row(layer) > 0) ask(place);
    stream(&place.keys[0], &place.values[0], 0);
    collect();
    return std::move(heads_);
  }
  std::size_t first = 0;
  for (const HeadRows& rows : place.keys) {
    stream(&rows, nullptr, first);
    first += rows.heads;
  }
  first = 0;
  for (const HeadRows& rows : place.values) {
    stream(nullptr, &rows, first);
    first += rows.heads;
  }
  return std::move(heads_);
}

AttentionMeter::Shape LayerRun::shape_of(const HeadRows& keys, const HeadRows& values) const {
  return {1,
          static_cast<std::uint32_t>(keys.dims),
          static_cast<std::uint32_t>(values.dims),
          s_.options.scale,
          s_.options.top_k,
          attention_.window};
}

/// Query head j asks key head j / (query heads / key heads) (grouped-query attention, arXiv 2305.13245).
void LayerRun::ask(const LayerHeads& place) {
  const HeadRows &keys = place.keys[0], &values = place.values[0];
  for (std::size_t who = 0; who < s_.sets.size(); ++who) {
    const LayerQueries* rows = s_.sets[who].of(layer_);
    if (rows == nullptr) continue;
    const auto chosen = s_.sets[who].choose(*rows, s_.split_position(), s_.options.queries_per_head);
    if (chosen.empty()) continue;
    const std::vector<float> queries = s_.sets[who].read(*rows, chosen, rotary_);
    std::vector<std::uint64_t> positions;
    for (const std::uint64_t token : chosen) positions.push_back(rows->position(token));
    queries_[who] = std::max<std::uint64_t>(queries_[who], chosen.size());
    const AttentionMeter::Shape shape = shape_of(keys, values);
    const std::size_t each = chosen.size() * rows->dims;
    for (std::size_t j = 0; j < rows->heads; ++j) {
      asking_.push_back({j / (rows->heads / keys.heads), who,
                         AttentionMeter(shape, std::span(queries).subspan(j * each, each), positions)});
    }
  }
  if (turn_ == 0 && (s_.options.proxies || s_.sets.empty())) ask_keys(keys, values);
}

/// Keys from the split on ask as queries would; without any, those of the last quarter.
void LayerRun::ask_keys(const HeadRows& keys, const HeadRows& values) {
  const std::uint64_t tokens = keys.tokens, split = s_.split_row(layer_);
  const std::uint64_t first = split < tokens ? split : tokens - std::max<std::uint64_t>(tokens / 4, 1);
  const std::vector<std::uint64_t> chosen = spread(first, tokens, s_.options.queries_per_head);
  std::vector<float> queries = keys.pick(s_.original, keys.tensor, chosen);
  std::vector<std::uint64_t> positions(chosen.size());
  const std::size_t each = chosen.size() * keys.dims;
  const AttentionMeter::Shape shape = shape_of(keys, values);
  for (std::size_t head = 0; head < keys.heads; ++head) {
    for (std::size_t i = 0; i < chosen.size(); ++i) positions[i] = s_.positions.of(layer_, head, chosen[i], 1)[0];
    for (std::size_t i = 0; rotary_ != nullptr && i < chosen.size(); ++i) {
      rotary_->turn(positions[i], 1, 1, 1, keys.dims, queries.data() + head * each + i * keys.dims);
    }
    asking_.push_back({head, 2, AttentionMeter(shape, std::span(queries).subspan(head * each, each), positions)});
    pairs_.emplace_back(attention_.rope, keys.dims);
  }
}

/// Of `count` tokens from `first` on, those that the decoded tensor has.
std::uint64_t LayerRun::decoded_of(const HeadRows& rows, std::uint64_t first, std::uint64_t count) const {
  if (twins_[rows.tensor] == kNoTwin) return 0;
  const std::uint64_t end = rows.axes.extent('T', decoded_.dump().tensors[twins_[rows.tensor]].shape);
  return end > first ? std::min(end - first, count) : 0;
}

void LayerRun::read(const HeadRows& rows, bool take_decoded, std::uint64_t first, std::uint64_t count,
                    std::vector<float>& original, std::vector<float>& decoded) {
  rows.read(s_.original, rows.tensor, first, count, original);
  const std::uint64_t n = take_decoded ? decoded_of(rows, first, count) : 0;
  if (n == count) {
    rows.read(decoded_, twins_[rows.tensor], first, count, decoded);
  } else {
    decoded = original;
  }
  if (n > 0 && n < count) {
    std::vector<float> some;
    rows.read(decoded_, twins_[rows.tensor], first, n, some);
    for (std::size_t head = 0; head < rows.heads; ++head) {
      std::copy_n(some.data() + head * n * rows.dims, n * rows.dims, decoded.data() + head * count * rows.dims);
    }
  }
  const std::size_t unit = dtype_unit(s_.original.dump().tensors[rows.tensor].dtype);
  done_ += original.size() * unit;
  if (progress_) progress_(done_, total_);
}

void LayerRun::stream(const HeadRows* keys, const HeadRows* values, std::size_t first_head) {
  const HeadRows& any = keys != nullptr ? *keys : *values;
  Block block;
  if (keys != nullptr) block.key_dims = keys->dims;
  if (values != nullptr) block.value_dims = values->dims;
  const std::uint64_t chunk = std::max(s_.original.traits().chunk_tokens, decoded_.traits().chunk_tokens);
  const std::uint64_t channels = any.heads * std::max(block.key_dims, block.value_dims);
  const std::uint64_t step = tokens_at_a_time(chunk, channels, any.tokens);
  for (block.first = 0; block.first < any.tokens; block.first += block.count) {
    // In the order of time; of a ring, up to its last row and then from its first on.
    const std::uint64_t row = (turn_ + block.first) % any.tokens;
    block.count = std::min({step, any.tokens - block.first, any.tokens - row});
    block.coded = decoded_of(any, row, block.count);
    if (keys != nullptr) read(*keys, s_.options.decoded_keys, row, block.count, block.keys, block.decoded_keys);
    if (values != nullptr) {
      read(*values, s_.options.decoded_values, row, block.count, block.values, block.decoded_values);
    }
    parallel_for(any.heads, s_.options.threads, [&](std::size_t head) {
      measure_head(block, head, heads_[first_head + head], pairs_.empty() ? nullptr : &pairs_[head]);
    });
    parallel_for(asking_.size(), s_.options.threads, [&](std::size_t i) {
      const auto part = [&](std::vector<float>& x, std::size_t dims) {
        return Block::of(x, asking_[i].head, block.count * dims);
      };
      asking_[i].meter.add(s_.positions.of(layer_, asking_[i].head, block.first, block.count),
                           part(block.keys, block.key_dims), part(block.values, block.value_dims),
                           part(block.decoded_keys, block.key_dims), part(block.decoded_values, block.value_dims));
    });
  }
}

/// Errors of values are of all tokens that were decoded; what attention sees is decoded before the split only, and
/// rotated.
void LayerRun::measure_head(Block& block, std::size_t head, HeadFidelity& out, PairSums* pairs) const {
  const std::uint64_t split = s_.split_row(layer_), kept = std::min(split - std::min(split, block.first), block.count);
  const auto measure = [&](std::vector<float>& original, std::vector<float>& decoded, std::size_t dims,
                           Distortion& distortion) {
    const std::span<float> x = Block::of(original, head, block.count * dims);
    const std::span<float> y = Block::of(decoded, head, block.count * dims);
    distortion.add(x.first(block.coded * dims), y.first(block.coded * dims), dims);
    if (pairs != nullptr && &distortion == &out.key) pairs->add(x.data(), y.data(), block.coded);
    std::copy(x.begin() + static_cast<std::ptrdiff_t>(kept * dims), x.end(),
              y.begin() + static_cast<std::ptrdiff_t>(kept * dims));
    if (asking_.empty() || rotary_ == nullptr || &distortion != &out.key) return;
    for (const std::span<float> side : {x, y}) {
      s_.positions.turn(*rotary_, layer_, head, block.first, side.size() / dims, dims, side.data());
    }
  };
  if (block.key_dims != 0) measure(block.keys, block.decoded_keys, block.key_dims, out.key);
  if (block.value_dims != 0) measure(block.values, block.decoded_values, block.value_dims, out.value);
}

void LayerRun::collect() {
  for (Asking& asking : asking_) {
    const AttentionError error = asking.meter.finish()[0];
    HeadFidelity& head = heads_[asking.head];
    left_out_ += error.left_out;
    if (error.queries == 0) continue;  // nothing was measured, which is not an error of nothing
    if (asking.who == 2) {
      head.proxy.emplace();
      head.proxy->keys_as_queries = error;
      pairs_[asking.head].finish(*head.proxy);
      continue;
    }
    std::optional<AttentionError>& of = asking.who == 0 ? head.attention : head.attention2;
    if (!of) of.emplace();
    of->merge(error);
  }
}

}  // namespace kvzip::tool
