// SPDX-License-Identifier: Apache-2.0
// Two passes over the tokens, block by block: the first finds each query's softmax and output (online softmax, arXiv
// 1805.02867), the second what each token had in it. Work is cut into tiles of queries in the first and blocks of
// tokens in the second, so that sums have the same order whatever the threads do.
#include "formats/saliency_layer.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "codec/buffer.hpp"
#include "codec/kernels/attention.hpp"
#include "codec/kernels/products.hpp"
#include "codec/portable_math.hpp"
#include "formats/channel_variance.hpp"
#include "formats/parallel.hpp"

namespace kvzip {
namespace {

using kernels::kQueryTile, kernels::kTokenBlock, kernels::kTokenPanel;

/// Queries, of all those of a head, that the mean of the head's tokens counts as in each token's weight: few have asked
/// the last tokens.
constexpr double kPrior = 8;
/// About as many tokens, in evenly spaced blocks, tell a tensor's variance.
constexpr std::uint64_t kVarianceTokens = 512;

bool usable(const float* x, std::size_t n) {
  return std::all_of(x, x + n, [](float v) { return std::fabs(v) <= kLargestNumber; });
}

double square_of(const float* x, std::size_t n) {
  double sum = 0;
  for (std::size_t i = 0; i < n; ++i) sum += double{x[i]} * x[i];
  return sum;
}

std::size_t panels_end(std::size_t tokens) {
  return (tokens + kTokenPanel - 1) / kTokenPanel * kTokenPanel;
}

/// One query of one head.
struct Query {
  bool asks = true, any = false;  // it is usable; it has seen a token
  float m = 0;                    // largest logit
  double z = 0;                   // sum of exp(s - m)
  kernels::QueryShare share{};
};

class LayerWeigher {
 public:
  LayerWeigher(const SaliencyLayer& layer, const SaliencyQueries& queries);
  TokenWeights run();

 private:
  /// Tokens of one head of a block: blocks of kTokenBlock rows, of which those missing are zeros.
  struct HeadBlock {
    Buffer<float> values, key_panels, value_panels;
    std::vector<float> squares;  // |v|^2
  };
  static constexpr std::size_t kBlockSums = 2 * kTokenBlock;

  void for_each_block(bool second);
  void take(std::size_t head, bool second);
  void add_variance(std::size_t head);
  void ask(std::size_t head, std::size_t tile);
  void finish_queries();
  void weigh(std::size_t head, std::size_t begin);
  std::vector<double> finish_head(std::size_t head, const std::vector<double>& sums, double factor) const;
  void weigh_tile(std::size_t head, std::size_t tile, std::size_t begin, std::size_t count, double* sums) const;
  /// Of a head's `count` tokens from `token` on, those at this position and before it: what a query sees.
  std::size_t seen(std::uint64_t position, std::size_t head, std::uint64_t token, std::size_t count) const {
    if (l_.positions.empty()) {
      const std::uint64_t first = l_.first_position + token;
      return position < first ? 0 : static_cast<std::size_t>(std::min<std::uint64_t>(position - first + 1, count));
    }
    const auto from = l_.positions[head].begin() + static_cast<std::ptrdiff_t>(token);
    const auto end = from + static_cast<std::ptrdiff_t>(count);
    return static_cast<std::size_t>(std::upper_bound(from, end, position) - from);
  }
  /// Those that the window has passed: their logits become no numbers.
  void hide(float* logits, std::uint64_t position, std::size_t head, std::uint64_t token, std::size_t count) const {
    if (l_.window == 0 || position < l_.window) return;
    std::fill_n(logits, seen(position - l_.window, head, token, count), std::numeric_limits<float>::quiet_NaN());
  }
  void turn(const Rotary& rotary, int sign, std::size_t head, std::uint64_t token, std::size_t count,
            float* keys) const;
  std::uint64_t last_position(std::size_t tile) const {
    return q_.positions[std::min(q_.positions.size(), (tile + 1) * kQueryTile) - 1];
  }

  const SaliencyLayer& l_;
  const SaliencyQueries& q_;
  std::size_t heads_, dim_, vdim_, group_, tiles_;
  Buffer<float> queries_, outputs_;  // times the scale: head, tile, channel, query
  std::vector<Query> state_;         // tiles_ * kQueryTile of each query head
  std::vector<double> out_;          // of each of them vdim_
  double energy_ = 0;                // mean |o|^2
  std::vector<float> keys_, values_;
  std::uint64_t first_ = 0, count_ = 0;  // tokens in keys_ and values_
  std::vector<HeadBlock> blocks_;
  std::vector<ChannelVariance> key_variance_, value_variance_;
  TokenWeights weights_;
};

LayerWeigher::LayerWeigher(const SaliencyLayer& layer, const SaliencyQueries& queries)
    : l_(layer),
      q_(queries),
      heads_(layer.keys.heads),
      dim_(layer.keys.dims),
      vdim_(layer.values.dims),
      group_(queries.heads / heads_),
      tiles_((queries.positions.size() + kQueryTile - 1) / kQueryTile),
      blocks_(heads_),
      key_variance_(heads_, ChannelVariance(dim_)),
      value_variance_(heads_, ChannelVariance(vdim_)) {
  const std::size_t each = q_.positions.size();
  state_.resize(q_.heads * tiles_ * kQueryTile);
  queries_.assign(state_.size() * dim_, 0.0f);
  out_.assign(state_.size() * vdim_, 0.0);
  const double scale = 1 / std::sqrt(static_cast<double>(dim_));
  for (std::size_t i = 0; i < q_.heads * tiles_ * kQueryTile; ++i) {
    const std::size_t tile = i / kQueryTile, lane = i % kQueryTile, at = tile % tiles_ * kQueryTile + lane;
    const float* from = q_.rows.data() + (tile / tiles_ * each + at) * dim_;
    Query& query = state_[i];
    query.asks = at < each && usable(from, dim_);
    if (!query.asks) continue;
    for (std::size_t c = 0; c < dim_; ++c) {
      queries_[(tile * dim_ + c) * kQueryTile + lane] = static_cast<float>(scale * from[c]);
    }
    query.share.key_factor = static_cast<float>(square_of(from, dim_) * scale * scale);
  }
  const std::vector<double> none(layer.keys.tokens);
  weights_.keys.assign(heads_, none);
  weights_.values.assign(heads_, none);
}

TokenWeights LayerWeigher::run() {
  for_each_block(false);
  finish_queries();
  for_each_block(true);
  const auto mean_variance = [&](const std::vector<ChannelVariance>& heads, std::size_t dims) {
    double sum = 0;
    for (const ChannelVariance& head : heads) sum += head.sum();
    return sum / static_cast<double>(heads_ * dims);
  };
  const double unit = energy_ > 0 ? 1 / energy_ : 0;
  const double key = mean_variance(key_variance_, dim_) * unit;
  const double value = mean_variance(value_variance_, vdim_) * static_cast<double>(vdim_) * unit;
  for (std::size_t head = 0; head < heads_; ++head) {
    weights_.keys[head] = finish_head(head, weights_.keys[head], key);
    weights_.values[head] = finish_head(head, weights_.values[head], value);
  }
  return std::move(weights_);
}

/// Sums over the queries of a head to means over those that count.
std::vector<double> LayerWeigher::finish_head(std::size_t head, const std::vector<double>& sums, double factor) const {
  const auto& positions = q_.positions;
  std::vector<double> asking(sums.size()), out(sums.size());
  double all = 0, all_asking = 0;
  for (std::size_t t = 0; t < sums.size(); ++t) {
    const std::uint64_t at = l_.position(head, t);
    const auto first = std::lower_bound(positions.begin(), positions.end(), at + kNearestQuery);
    const auto end = l_.window == 0 ? positions.end() : std::lower_bound(first, positions.end(), at + l_.window);
    asking[t] = static_cast<double>(group_) * static_cast<double>(end - first);
    if (t < kSinkTokens || std::isnan(sums[t])) continue;
    all += sums[t];
    all_asking += asking[t];
  }
  const double mean = all_asking > 0 ? all / all_asking : 0;
  const double share = static_cast<double>(positions.size()) / static_cast<double>(positions.back() - positions[0] + 1);
  const double prior = kPrior * static_cast<double>(group_) * share;
  for (std::size_t t = 0; t < sums.size(); ++t) {
    out[t] = factor * (sums[t] + prior * mean) / (asking[t] + prior);  // NaN stays NaN
  }
  return out;
}

void LayerWeigher::for_each_block(bool second) {
  const std::uint64_t tokens = l_.keys.tokens;
  const std::uint64_t step = tokens_at_a_time(l_.reader.traits().chunk_tokens, heads_ * std::max(dim_, vdim_), tokens);
  for (first_ = 0; first_ < tokens; first_ += step) {
    count_ = std::min(step, tokens - first_);
    l_.keys.read(l_.reader, l_.keys.tensor, first_, count_, keys_);
    l_.values.read(l_.reader, l_.values.tensor, first_, count_, values_);
    parallel_for(heads_, l_.threads, [&](std::size_t head) { take(head, second); });
    if (second) {
      const std::size_t blocks = (count_ + kTokenBlock - 1) / kTokenBlock;
      parallel_for(heads_ * blocks, l_.threads, [&](std::size_t i) { weigh(i / blocks, i % blocks * kTokenBlock); });
    } else {
      parallel_for(q_.heads * tiles_, l_.threads, [&](std::size_t i) { ask(i / tiles_, i % tiles_); });
    }
  }
}

void LayerWeigher::turn(const Rotary& rotary, int sign, std::size_t head, std::uint64_t token, std::size_t count,
                        float* keys) const {
  if (l_.positions.empty()) return rotary.turn(l_.first_position + token, sign, count, 1, dim_, keys);
  for (std::size_t t = 0; t < count; ++t) rotary.turn(l_.position(head, token + t), sign, 1, 1, dim_, keys + t * dim_);
}

/// Tokens of a head to what the loops work on. The logits of a token that is left out are no numbers, and its value is
/// zero.
void LayerWeigher::take(std::size_t head, bool second) {
  HeadBlock& block = blocks_[head];
  float* keys = keys_.data() + head * count_ * dim_;
  const float* values = values_.data() + head * count_ * vdim_;
  const std::size_t blocks = (count_ + kTokenBlock - 1) / kTokenBlock, room = blocks * kTokenBlock;
  if (!second) add_variance(head);
  if (l_.turn != nullptr) turn(*l_.turn, 1, head, first_, count_, keys);
  block.values.assign(room * vdim_, 0.0f);
  block.squares.assign(room, 0.0f);
  for (std::size_t t = 0; t < count_; ++t) {
    const float* value = values + t * vdim_;
    if (usable(keys + t * dim_, dim_) && usable(value, vdim_)) {
      std::copy_n(value, vdim_, block.values.data() + t * vdim_);
      block.squares[t] = static_cast<float>(square_of(value, vdim_));
    } else {
      std::fill_n(keys + t * dim_, dim_, std::numeric_limits<float>::quiet_NaN());
      weights_.keys[head][first_ + t] = weights_.values[head][first_ + t] = std::numeric_limits<double>::quiet_NaN();
    }
  }
  block.key_panels.resize(room * dim_);
  block.value_panels.resize(second ? room * vdim_ : 0);
  for (std::size_t t = 0; t < count_; t += kTokenBlock) {
    const std::size_t some = std::min(kTokenBlock, count_ - t);
    kernels::pack_panels(keys + t * dim_, some, dim_, block.key_panels.data() + t * dim_);
    if (second) {
      kernels::pack_panels(block.values.data() + t * vdim_, some, vdim_, block.value_panels.data() + t * vdim_);
    }
  }
}

void LayerWeigher::add_variance(std::size_t head) {
  const std::uint64_t apart = std::max<std::uint64_t>(1, l_.keys.tokens / kVarianceTokens) * kTokenBlock;
  for (std::uint64_t begin = 0; begin < count_; begin += kTokenBlock) {
    if ((first_ + begin) % apart != 0) continue;
    const std::uint64_t first = std::max(first_ + begin, kSinkTokens),
                        end = std::min(begin + kTokenBlock, count_) + first_;
    if (first >= end) continue;
    const float* values = values_.data() + (head * count_ + first - first_) * vdim_;
    const float* keys = keys_.data() + (head * count_ + first - first_) * dim_;
    Buffer<float> plain(keys, keys + (end - first) * dim_);
    if (l_.turn_back != nullptr) turn(*l_.turn_back, -1, head, first, end - first, plain.data());
    key_variance_[head].add(plain.data(), end - first);
    value_variance_[head].add(values, end - first);
  }
}

void LayerWeigher::ask(std::size_t head, std::size_t tile) {
  alignas(64) std::array<float, kQueryTile * kTokenBlock> s;
  Buffer<float> added(kQueryTile * vdim_);
  std::array<double, kQueryTile> factors;
  const HeadBlock& block = blocks_[head / group_];
  const std::size_t base = (head * tiles_ + tile) * kQueryTile;
  for (std::size_t begin = 0; begin < count_; begin += kTokenBlock) {
    const std::uint64_t token = first_ + begin;
    const std::size_t some =
        seen(last_position(tile), head / group_, token, std::min<std::size_t>(kTokenBlock, count_ - begin));
    if (some == 0) return;
    const std::size_t width = panels_end(some);
    kernels::tile_logits(queries_.data() + base * dim_, block.key_panels.data() + begin * dim_, dim_, some, s.data());
    for (std::size_t i = 0; i < kQueryTile; ++i) {
      Query& query = state_[base + i];
      float* row = s.data() + i * kTokenBlock;
      const std::size_t sees = query.asks ? seen(q_.positions[tile * kQueryTile + i], head / group_, token, some) : 0;
      hide(row, q_.positions[std::min(tile * kQueryTile + i, q_.positions.size() - 1)], head / group_, token, some);
      const float largest = kernels::mask_logits(row, sees, width);
      factors[i] = 1;
      if (largest == kernels::kNoLogit) {
        std::fill_n(row, width, 0.0f);
        continue;
      }
      const float m = query.any ? std::max(query.m, largest) : largest;
      if (query.any && m != query.m) {
        const double fall = double{query.m} - m;
        factors[i] = fall < -700 ? 0 : portable::exp(fall);
      }
      query.any = true;
      query.m = m;
      query.z = query.z * factors[i] + kernels::exp_weights(row, width, m);
    }
    kernels::tile_outputs(s.data(), block.values.data() + begin * vdim_, some, vdim_, added.data());
    for (std::size_t i = 0; i < kQueryTile; ++i) {
      kernels::scale_and_add(added.data() + i * vdim_, vdim_, factors[i], out_.data() + (base + i) * vdim_);
    }
  }
}

void LayerWeigher::finish_queries() {
  outputs_.assign(state_.size() * vdim_, 0.0f);
  double asked = 0;
  for (std::size_t i = 0; i < state_.size(); ++i) {
    Query& query = state_[i];
    if (!query.any) continue;
    const std::size_t tile = i / kQueryTile, lane = i % kQueryTile;
    double square = 0;
    for (std::size_t c = 0; c < vdim_; ++c) {
      const double o = out_[i * vdim_ + c] / query.z;
      outputs_[(tile * vdim_ + c) * kQueryTile + lane] = static_cast<float>(o);
      square += o * o;
    }
    query.share.m = query.m;
    query.share.inverse_z = static_cast<float>(1 / query.z);
    query.share.output_square = static_cast<float>(square);
    energy_ += square;
    asked += 1;
  }
  if (asked > 0) energy_ /= asked;
}

void LayerWeigher::weigh_tile(std::size_t head, std::size_t tile, std::size_t begin, std::size_t count,
                              double* sums) const {
  alignas(64) std::array<float, kQueryTile * kTokenBlock> s, products;
  alignas(64) std::array<float, kBlockSums> added{};
  const HeadBlock& block = blocks_[head / group_];
  const std::size_t base = (head * tiles_ + tile) * kQueryTile;
  // What a query that comes later by kNearestQuery sees.
  const auto seen_by = [&](std::uint64_t position, std::size_t most) {
    return position < kNearestQuery ? 0 : seen(position - kNearestQuery, head / group_, first_ + begin, most);
  };
  const std::size_t some = seen_by(last_position(tile), count), width = panels_end(some);
  if (some == 0) return;
  kernels::tile_logits(queries_.data() + base * dim_, block.key_panels.data() + begin * dim_, dim_, some, s.data());
  kernels::tile_logits(outputs_.data() + base * vdim_, block.value_panels.data() + begin * vdim_, vdim_, some,
                       products.data());
  for (std::size_t i = 0; i < kQueryTile; ++i) {
    const Query& query = state_[base + i];
    const std::size_t sees = query.any ? seen_by(q_.positions[tile * kQueryTile + i], some) : 0;
    float* row = s.data() + i * kTokenBlock;
    if (sees > 0) hide(row, q_.positions[tile * kQueryTile + i], head / group_, first_ + begin, some);
    if (sees == 0 || kernels::mask_logits(row, sees, width) == kernels::kNoLogit) continue;
    kernels::add_error_weights(row, products.data() + i * kTokenBlock, block.squares.data() + begin, width, query.share,
                               added.data(), added.data() + kTokenBlock);
  }
  kernels::scale_and_add(added.data(), added.size(), 1, sums);
}

void LayerWeigher::weigh(std::size_t head, std::size_t begin) {
  std::array<double, kBlockSums> sums{};
  const std::size_t count = std::min<std::size_t>(kTokenBlock, count_ - begin);
  for (std::size_t j = head * group_; j < (head + 1) * group_; ++j) {
    for (std::size_t tile = 0; tile < tiles_; ++tile) weigh_tile(j, tile, begin, count, sums.data());
  }
  for (std::size_t t = 0; t < count; ++t) {  // what is left out stays NaN
    weights_.values[head][first_ + begin + t] += sums[t];
    weights_.keys[head][first_ + begin + t] += sums[kTokenBlock + t];
  }
}

}  // namespace

TokenWeights weigh_tokens(const SaliencyLayer& layer, const SaliencyQueries& queries) {
  return LayerWeigher(layer, queries).run();
}

std::vector<std::vector<double>> value_squares(const SaliencyLayer& layer) {
  const HeadRows& values = layer.values;
  std::vector<std::vector<double>> out(values.heads);
  const std::uint64_t chunk = layer.reader.traits().chunk_tokens;
  const std::uint64_t step = tokens_at_a_time(chunk, values.heads * values.dims, values.tokens);
  std::vector<float> rows;
  for (auto& of_head : out) of_head.resize(values.tokens);
  for (std::uint64_t first = 0; first < values.tokens; first += step) {
    const std::uint64_t count = std::min(step, values.tokens - first);
    values.read(layer.reader, values.tensor, first, count, rows);
    parallel_for(values.heads, layer.threads, [&](std::size_t head) {
      const float* of = rows.data() + head * count * values.dims;
      double* squares = out[head].data() + first;
      kernels::row_energies(of, count, values.dims, squares);
      for (std::size_t row = 0; row < count; ++row, of += values.dims) {
        const bool small = squares[row] <= double{kLargestNumber} * kLargestNumber;  // then no number is larger
        if (!small && !usable(of, values.dims)) squares[row] = std::numeric_limits<double>::quiet_NaN();
      }
    });
  }
  return out;
}

}  // namespace kvzip
