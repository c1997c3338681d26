// SPDX-License-Identifier: Apache-2.0
// Online softmax (Milakov and Gimelshein, arXiv 1805.02867), with outputs (FlashAttention, arXiv 2205.14135 section
// 3.1): the largest logit so far is the reference, and sums are scaled when it moves.
#include "src/measure/online_attention.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "codec/kernels/attention.hpp"
#include "codec/portable_math.hpp"

namespace kvzip::tool {
namespace {

using kernels::kQueryTile, kernels::kTokenBlock, kernels::kTokenPanel;

constexpr float kLargestNumber = 1e30f;  // products of weights and numbers stay floats

bool usable(const float* x, std::size_t n) {
  return std::all_of(x, x + n, [](float v) { return std::fabs(v) <= kLargestNumber; });
}

}  // namespace

std::size_t tokens_up_to(std::span<const std::uint64_t> tokens, std::uint64_t position) {
  return static_cast<std::size_t>(std::upper_bound(tokens.begin(), tokens.end(), position) - tokens.begin());
}

std::size_t tokens_past(std::span<const std::uint64_t> tokens, std::uint64_t position, std::uint64_t window) {
  return window == 0 || position < window ? 0 : tokens_up_to(tokens, position - window);
}

QueryTiles::QueryTiles(std::span<const float> queries, std::size_t dims, double scale) : dims_(dims) {
  const std::size_t count = queries.size() / dims, tiles = (count + kQueryTile - 1) / kQueryTile;
  asks_.resize(tiles * kQueryTile);
  packed_.assign(asks_.size() * dims, 0.0f);
  if (scale == 0) scale = 1 / std::sqrt(static_cast<double>(dims));
  for (std::size_t i = 0; i < count; ++i) {
    const float* from = queries.data() + i * dims;
    asks_[i] = usable(from, dims);
    if (!asks_[i]) continue;
    float* to = packed_.data() + i / kQueryTile * kQueryTile * dims + i % kQueryTile;
    for (std::size_t c = 0; c < dims; ++c) to[c * kQueryTile] = static_cast<float>(scale * from[c]);
  }
}

std::size_t QueryTiles::lanes() {
  return kQueryTile;
}

OnlineAttention::OnlineAttention(const Shape& shape, std::span<const float> queries,
                                 std::span<const std::uint64_t> positions)
    : shape_(shape),
      positions_(positions.begin(), positions.end()),
      queries_(queries, shape.dims, shape.scale),
      state_(queries_.tiles() * kQueryTile),
      out_(state_.size() * shape.value_dims),
      panels_(kTokenBlock * shape.dims),
      added_(kQueryTile * shape.value_dims) {}

void OnlineAttention::add(std::span<const std::uint64_t> positions, std::span<const float> keys,
                          std::span<const float> values, const Takes& takes) {
  for (std::size_t t = 0; t < positions.size(); t += kTokenBlock) {
    if (positions_.empty() || positions_.back() < positions[t]) return;  // nobody sees what follows
    const std::size_t some = std::min(kTokenBlock, positions.size() - t);
    const Takes of_block = [&](std::size_t query, std::size_t token) { return takes(query, t + token); };
    add_block(positions.subspan(t, some), keys.data() + t * shape_.dims, values.data() + t * shape_.value_dims,
              takes ? of_block : takes);
  }
}

/// Logits of the tokens that a query sees become weights; the factor that its sums so far are to be scaled with.
double OnlineAttention::weigh(Query& query, float* logits, std::size_t sees, std::size_t width) {
  constexpr double kLeast = -700;  // what is so far below the largest weight is none
  const float largest = kernels::mask_logits(logits, sees, width);
  for (std::size_t t = 0; t < sees; ++t) left_out_ += logits[t] == kernels::kNoLogit;
  if (largest == kernels::kNoLogit) {
    std::fill_n(logits, width, 0.0f);
    return 1;
  }
  double factor = 1;
  const float m = query.any ? std::max(query.m, largest) : largest;
  if (query.any && m != query.m) {
    const double fall = double{query.m} - m;
    factor = fall < kLeast ? 0 : portable::exp(fall);
  }
  query.any = true;
  query.m = m;
  query.z = query.z * factor + kernels::exp_weights(logits, width, m);
  return factor;
}

void OnlineAttention::add_block(std::span<const std::uint64_t> positions, const float* keys, const float* values,
                                const Takes& takes) {
  const std::size_t dims = shape_.dims, value_dims = shape_.value_dims, count = positions.size();
  keys_.assign(keys, keys + count * dims);
  values_.assign(values, values + count * value_dims);
  for (std::size_t t = 0; t < count; ++t) {
    if (usable(values + t * value_dims, value_dims)) continue;
    std::fill_n(values_.data() + t * value_dims, value_dims, 0.0f);
    std::fill_n(keys_.data() + t * dims, dims, std::numeric_limits<float>::quiet_NaN());  // no logit
  }
  kernels::pack_panels(keys_.data(), count, dims, panels_.data());
  alignas(64) std::array<float, kQueryTile * kTokenBlock> logits;
  std::array<double, kQueryTile> factors;
  for (std::size_t tile = 0; tile < queries_.tiles(); ++tile) {
    const std::size_t base = tile * kQueryTile, end = std::min(base + kQueryTile, positions_.size());
    const std::size_t most = tokens_up_to(positions, positions_[end - 1]);
    if (most == 0) continue;
    const std::size_t width = (most + kTokenPanel - 1) / kTokenPanel * kTokenPanel;
    kernels::tile_logits(queries_.tile(tile), panels_.data(), dims, most, logits.data());
    for (std::size_t i = 0; i < kQueryTile; ++i) {
      const bool asks = base + i < end && queries_.asks(base + i);
      const std::size_t sees = asks ? tokens_up_to(positions, positions_[base + i]) : 0;
      const std::size_t past = asks ? tokens_past(positions, positions_[base + i], shape_.window) : 0;
      for (std::size_t t = 0; t < (takes ? sees : past); ++t) {
        if (t >= past && takes(base + i, t)) continue;
        logits[i * kTokenBlock + t] = std::numeric_limits<float>::quiet_NaN();
        --left_out_;  // weigh() counts it
      }
      factors[i] = weigh(state_[base + i], logits.data() + i * kTokenBlock, sees, width);
    }
    kernels::tile_outputs(logits.data(), values_.data(), most, value_dims, added_.data());
    for (std::size_t i = 0; i < kQueryTile; ++i) {
      kernels::scale_and_add(added_.data() + i * value_dims, value_dims, factors[i],
                             out_.data() + (base + i) * value_dims);
    }
  }
}

void OnlineAttention::outputs(std::span<float> out) const {
  for (std::size_t i = 0; i < positions_.size(); ++i) {
    for (std::size_t c = 0; c < shape_.value_dims; ++c) {
      const std::size_t at = i * shape_.value_dims + c;
      out[at] = state_[i].any ? static_cast<float>(out_[at] / state_[i].z) : 0.0f;
      if (!queries_.asks(i)) out[at] = std::numeric_limits<float>::quiet_NaN();
    }
  }
}

}  // namespace kvzip::tool
