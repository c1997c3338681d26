// SPDX-License-Identifier: Apache-2.0
#include "src/prune/token_scores.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include "codec/kernels/attention.hpp"
#include "codec/portable_math.hpp"
#include "codec/splitmix64.hpp"
#include "formats/parallel.hpp"
#include "src/measure/online_attention.hpp"

namespace kvzip::tool {
namespace {

using kernels::kQueryTile, kernels::kTokenBlock, kernels::kTokenPanel;

/// Keys of a layer as blocks of panels, by head.
struct PackedKeys {
  std::uint64_t tokens = 0;
  std::size_t dims = 1;
  std::vector<Buffer<float>> heads;
};

PackedKeys pack(Asking& asking, const Asking::Layer& layer) {
  const HeadRows& keys = asking.layers().at(layer).keys[0];
  PackedKeys out{keys.tokens, keys.dims, {}};
  const std::size_t room = (keys.tokens + kTokenBlock - 1) / kTokenBlock * kTokenBlock * keys.dims;
  out.heads.resize(keys.heads, Buffer<float>(room));
  asking.for_each_piece(layer, false, [&](const Asking::Piece& piece) {
    for (std::size_t head = 0; head < keys.heads; ++head) {
      for (std::uint64_t t = 0; t < piece.count; t += kTokenBlock) {
        const std::size_t some = std::min<std::uint64_t>(kTokenBlock, piece.count - t);
        kernels::pack_panels(piece.keys.data() + (head * piece.count + t) * keys.dims, some, keys.dims,
                             out.heads[head].data() + (piece.first + t) * keys.dims);
      }
    }
  });
  return out;
}

/// One layer's queries on their way.
class LayerScorer {
 public:
  LayerScorer(const PackedKeys& keys, const Asked& asked, std::uint64_t first_position, std::uint64_t window,
              const ScoreOptions& options)
      : keys_(keys), asked_(asked), first_(first_position), window_(window), o_(options) {
    const std::uint64_t end = first_ + keys.tokens;
    const auto later = std::lower_bound(asked.positions.begin(), asked.positions.end(), end);
    prompt_ = static_cast<std::size_t>(later - asked.positions.begin());
  }

  /// Adds what query head `j` takes of each token.
  void add(std::size_t j, std::uint64_t seed, std::vector<double>& scores) const {
    const QueryTiles queries(asked_.head(j, keys_.dims), keys_.dims, o_.scale);
    const Buffer<float>& panels = keys_.heads[j / (asked_.heads / keys_.heads.size())];
    const std::size_t blocks = (keys_.tokens + kTokenBlock - 1) / kTokenBlock;
    Buffer<float> logits(blocks * kTokenBlock * kQueryTile);
    std::vector<double> weights;
    for (std::size_t tile = 0; tile < queries.tiles(); ++tile) {
      for (std::size_t b = 0; b < blocks; ++b) {
        const std::size_t some = std::min<std::uint64_t>(kTokenBlock, keys_.tokens - b * kTokenBlock);
        kernels::tile_logits(queries.tile(tile), panels.data() + b * kTokenBlock * keys_.dims, keys_.dims, some,
                             logits.data() + b * kTokenBlock * kQueryTile);
      }
      for (std::size_t i = 0; i < kQueryTile && tile * kQueryTile + i < asked_.positions.size(); ++i) {
        const std::size_t query = tile * kQueryTile + i;
        if (!queries.asks(query) || asked_.positions[query] < first_) continue;
        const std::uint64_t behind = asked_.positions[query] - first_ + 1;
        const std::size_t sees = std::min<std::uint64_t>(behind, keys_.tokens);
        const std::size_t past = window_ == 0 || behind < window_ ? 0 : std::min<std::uint64_t>(behind - window_, sees);
        weights.assign(sees, std::nan(""));
        for (std::size_t t = past; t < sees; ++t) {
          weights[t] = logits[(t / kTokenBlock * kQueryTile + i) * kTokenBlock + t % kTokenBlock];
        }
        add_query(query, splitmix64(seed, query), weights, scores);
      }
    }
  }

 private:
  /// tau of Keyformer's algorithm 1: that of the prompt, then in equal steps to the last.
  double temperature(std::size_t query) const {
    if (query < prompt_) return o_.first_temperature;
    const auto step = static_cast<double>(query - prompt_ + 1);
    const auto steps = static_cast<double>(asked_.positions.size() - prompt_);
    return o_.first_temperature + step * (o_.last_temperature - o_.first_temperature) / steps;
  }

  /// Logits become weights, which are added.
  void add_query(std::size_t query, std::uint64_t seed, std::vector<double>& x, std::vector<double>& scores) const {
    constexpr double kLeast = -700;  // what is so far below the largest weight is none
    const double tau = temperature(query);
    double largest = -kernels::kLargestLogit, sum = 0;
    for (std::size_t t = 0; t < x.size(); ++t) {
      if (!(std::fabs(x[t]) <= kernels::kLargestLogit)) x[t] = std::nan("");
      if (o_.keyformer) x[t] = (x[t] + gumbel(seed, t)) / tau;
      if (x[t] > largest) largest = x[t];
    }
    for (double& w : x) {
      w = w - largest > kLeast ? portable::exp(w - largest) : 0;  // NaN: 0
      sum += w;
    }
    for (std::size_t t = 0; t < x.size() && sum > 0; ++t) scores[t] += x[t] / sum;
  }

  const PackedKeys& keys_;
  const Asked& asked_;
  std::uint64_t first_, window_;
  const ScoreOptions& o_;
  std::size_t prompt_ = 0;  // queries at positions of the cache
};

}  // namespace

double gumbel(std::uint64_t seed, std::uint64_t token) {
  const double u = (static_cast<double>(splitmix64(seed, token) >> 11) + 0.5) * 0x1p-53;
  return -portable::log(-portable::log(u));
}

std::map<Asking::Layer, LayerScores> score_tokens(Asking& asking, const ScoreOptions& options,
                                                  const Progress& progress) {
  std::map<Asking::Layer, LayerScores> out;
  for (const auto& [layer, place] : asking.layers()) {
    const PackedKeys keys = pack(asking, layer);
    const Asked asked = asking.read(layer);
    const LayerScorer scorer(keys, asked, asking.first_position(layer), asking.window(layer), options);
    const std::uint64_t layer_seed = splitmix64(splitmix64(options.seed, layer.first), layer.second);
    LayerScores& scores = out[layer];
    scores.assign(keys.heads.size(), std::vector<double>(keys.tokens));
    const std::size_t group = asked.heads / keys.heads.size();
    parallel_for(keys.heads.size(), options.threads, [&](std::size_t head) {
      for (std::size_t j = head * group; j < (head + 1) * group; ++j) {
        scorer.add(j, splitmix64(layer_seed, j), scores[head]);
      }
    });
    if (progress) progress(out.size(), asking.layers().size());
  }
  return out;
}

}  // namespace kvzip::tool
