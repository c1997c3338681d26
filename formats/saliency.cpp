// SPDX-License-Identifier: Apache-2.0
#include "kvzip/saliency.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <optional>
#include <set>

#include "codec/fail.hpp"
#include "codec/pipeline.hpp"
#include "codec/portable_math.hpp"
#include "formats/parallel.hpp"
#include "formats/query_set.hpp"
#include "formats/row_places.hpp"
#include "formats/saliency_layer.hpp"
#include "formats/saliency_proxy.hpp"
#include "formats/token_positions.hpp"
#include "formats/used_rows.hpp"

namespace kvzip {
namespace {

// Where nobody says which tokens matter, any of them may: all count as those that do.
constexpr double kProxyLevel = 1.8;
/// And by how much keys stand above values: at equal bytes that leaves 9 to 25 % less KL on three texts.
constexpr float kKeysAbove = 1.2f;
constexpr double kFloor = 0.02;  // of the mean weight, sinks left out
constexpr float kMost = 40;
constexpr std::uint64_t kLittleWork = std::uint64_t{1} << 18;  // tokens x queries of a head
constexpr std::uint32_t kManyQueries = 128;

/// Numbers of the heads that are measured alike.
class Heads {
 public:
  void add(const Saliency::Head& head, std::vector<float> numbers) { heads_.emplace(head, std::move(numbers)); }
  /// log2 of weights with a floor. Without a weight that is above zero nothing is said of the head.
  void add_weights(const Saliency::Head& head, const std::vector<double>& weights) {
    const auto mean_from = [&](std::uint64_t first) {
      double sum = 0, count = 0;
      for (std::uint64_t t = first; t < weights.size(); ++t) {
        if (std::isfinite(weights[t])) sum += weights[t], count += 1;
      }
      return count > 0 ? sum / count : 0;
    };
    double mean = mean_from(kSinkTokens);
    if (!(mean > 0)) mean = mean_from(0);
    std::vector<float> numbers(weights.size(), kUnknown);
    for (std::size_t t = 0; t < weights.size() && mean > 0; ++t) {
      if (!std::isfinite(weights[t])) continue;
      const double w = std::max(weights[t], kFloor * mean);
      if (std::isnormal(w)) numbers[t] = static_cast<float>(portable::log(w) / portable::log(2));
    }
    add(head, std::move(numbers));
  }
  /// Moves the mean of all that is known to `level`, and adds the heads to `out`.
  void move_to(Saliency& out, double level) {
    double sum = 0, count = 0;
    for (const auto& [head, numbers] : heads_) {
      for (const float s : numbers) {
        if (std::isfinite(s)) sum += s, count += 1;
      }
    }
    const double mean = count > 0 ? sum / count : 0;
    for (auto& [head, numbers] : heads_) {
      for (float& s : numbers)
        s = std::isfinite(s) ? std::clamp(static_cast<float>(s - mean + level), -kMost, kMost) : 0;
    }
    out.heads.merge(heads_);
  }

  static constexpr float kUnknown = std::numeric_limits<float>::quiet_NaN();

 private:
  std::map<Saliency::Head, std::vector<float>> heads_;
};

/// Rotation of heads of this width, as far as it is known.
std::optional<Rotary> rotary_of(Rope rope, std::uint64_t dims, std::uint64_t end) {
  constexpr std::uint64_t kMostDims = 512;  // of one head; merged heads of unknown width are wider
  if (rope.theta == 0 || (rope.dims == 0 && dims > kMostDims)) return {};
  if (rope.dims == 0) rope.dims = static_cast<std::uint32_t>(dims);
  try {
    check_rotary(rope, dims, end);
  } catch (const Error&) {
    return {};
  }
  return Rotary(rope);
}

class Measuring {
 public:
  Measuring(DumpReader& dump, const Recognition& recognition, const SaliencyOptions& options)
      : dump_(dump), model_(recognition.model), options_(options) {
    if (options.queries != nullptr) {
      queries_.emplace(*options.queries, options.queries_name, options.recognise, model_.rope);
    } else if (options.source != SaliencyOptions::Source::proxy) {
      queries_.emplace(dump, recognition);
    }
    if (queries_ && !queries_->empty()) places_ = row_places(dump, recognition);
  }

  Saliency run(HeadMap heads) {
    std::erase_if(heads, [](const auto& layer) { return !pairs_up(layer.second); });
    positions_ = TokenPositions(dump_, heads, model_.rope.first_position, TokenPositions::Odd::ignore, places_.first);
    std::uint64_t done = 0;
    for (const auto& [layer, place] : heads) {
      measure(layer, place);
      if (options_.progress) options_.progress(++done, heads.size());
    }
    Saliency out;
    out.from_queries = asked_;
    out.by_proxy = by_proxy_;
    if (options_.source == SaliencyOptions::Source::queries && !any_) {
      fail(ErrorCode::invalid_argument, "it has no queries of its keys and values; saliency can be had by proxy");
    }
    asked_heads_.move_to(out, 0);
    other_heads_.move_to(out, kProxyLevel);
    return out;
  }

 private:
  using Layer = std::pair<std::uint32_t, std::uint64_t>;

  /// Without padding, which is no token.
  void measure(const Layer& layer, const LayerHeads& place) {
    HeadRows keys = place.keys[0], values = place.values[0];
    tokens_ = keys.tokens;
    const std::uint64_t used = std::max(used_tokens(dump_, keys.tensor, keys.axes, keys.fixed),
                                        used_tokens(dump_, values.tensor, values.axes, values.fixed));
    if (used != 0) keys.tokens = values.tokens = std::min(used, tokens_);
    const LayerQueries* queries = queries_ ? queries_->of(layer) : nullptr;
    const auto [rope, window] = model_.attention(layer.first);
    std::uint64_t end = positions_.stored() ? positions_.behind(keys.tokens) : positions_.first_of(layer) + keys.tokens;
    if (queries != nullptr) end = std::max(end, queries_->end_position());
    const std::optional<Rotary> rotary = rotary_of(rope, keys.dims, end);
    SaliencyLayer of{dump_,
                     keys,
                     values,
                     positions_.first_of(layer),
                     nullptr,
                     nullptr,
                     options_.threads,
                     window,
                     positions_of(layer, keys)};
    if (rotary && rope.state == Rope::State::pre) of.turn = &*rotary;
    if (rotary && rope.state == Rope::State::post) of.turn_back = &*rotary;
    const bool mixed = is_mixed(places_, dump_.dump().tensors[keys.tensor].name);
    if (queries == nullptr || mixed || !ask(layer, of, *queries)) use_proxy(layer, of);
  }

  /// Empty where no token was left out.
  SaliencyLayer::Positions positions_of(const Layer& layer, const HeadRows& keys) const {
    SaliencyLayer::Positions out;
    for (std::uint64_t head = 0; positions_.stored() && head < keys.heads; ++head)
      out.push_back(positions_.of(layer, head, 0, keys.tokens));
    return out;
  }

  /// False when its queries do not fit the layer, or none comes late enough to say something of a token.
  bool ask(const Layer& layer, const SaliencyLayer& of, const LayerQueries& queries) {
    const bool rotation_unknown = model_.attention(layer.first).rope.state == Rope::State::pre && of.turn == nullptr;
    if (queries.dims != of.keys.dims || queries.heads % of.keys.heads != 0 || rotation_unknown) {
      if (options_.source == SaliencyOptions::Source::proxy || options_.queries == nullptr) return false;
      fail(ErrorCode::invalid_argument, "the queries of layer {}, {} heads of {}, do not fit keys of {} heads of {}{}",
           layer.first, queries.heads, queries.dims, of.keys.heads, of.keys.dims,
           rotation_unknown ? " that are not rotated, without rope_theta" : "");
    }
    std::uint64_t most = options_.queries_per_head;
    if (most == 0 && queries.tokens > kLittleWork / std::max<std::uint64_t>(1, of.keys.tokens)) most = kManyQueries;
    const std::vector<std::uint64_t> chosen = queries_->choose(queries, of.first_position, most);
    if (chosen.empty()) return false;
    any_ = true;
    if (queries.position(chosen.back()) < of.position(0, 0) + kNearestQuery) return false;
    const std::vector<float> rows = queries_->read(queries, chosen, of.turn);
    std::vector<std::uint64_t> positions;
    for (const std::uint64_t token : chosen) positions.push_back(queries.position(token));
    TokenWeights weights = weigh_tokens(of, {rows, positions, queries.heads});
    for (std::uint64_t head = 0; head < of.keys.heads; ++head) {
      for (const Role role : {Role::key, Role::value}) {
        std::vector<double>& own = (role == Role::key ? weights.keys : weights.values)[head];
        own.resize(tokens_, std::numeric_limits<double>::quiet_NaN());
        asked_heads_.add_weights({role, layer.first, layer.second, head}, own);
      }
    }
    return asked_ = true;
  }

  void use_proxy(const Layer& layer, const SaliencyLayer& of) {
    by_proxy_.insert(layer);
    const std::vector<std::vector<double>> squares = value_squares(of);
    std::vector<std::vector<float>> numbers(squares.size());
    parallel_for(squares.size(), options_.threads, [&](std::size_t h) { numbers[h] = proxy_saliency(squares[h]); });
    for (std::uint64_t head = 0; head < of.values.heads; ++head) {
      for (const Role role : {Role::key, Role::value}) {
        std::vector<float> own = numbers[head];
        own.resize(tokens_, Heads::kUnknown);
        for (float& s : own) s += role == Role::key ? kKeysAbove / 2 : -kKeysAbove / 2;
        other_heads_.add({role, layer.first, layer.second, head}, std::move(own));
      }
    }
  }

  DumpReader& dump_;
  const ModelInfo& model_;
  const SaliencyOptions& options_;
  std::optional<QuerySet> queries_;
  RowPlaces places_;  // of what queries see; empty: nobody asks
  TokenPositions positions_;
  Heads asked_heads_, other_heads_;
  std::set<Layer> by_proxy_;
  std::uint64_t tokens_ = 0;          // of the layer at hand, with padding
  bool any_ = false, asked_ = false;  // queries that fit; of which one comes late enough
};

}  // namespace

std::vector<float> proxy_saliency(std::span<const double> value_squares) {
  constexpr double kFar = 4, kPower = 3, kMostBits = 24, kSinkBits = 20, kMany = 512;
  constexpr std::size_t kSinks = 4;
  std::vector<double> sorted;
  for (const double x : value_squares) {
    if (std::isfinite(x)) sorted.push_back(x);
  }
  std::vector<float> out(value_squares.size(), 0.0f);
  if (sorted.empty()) return out;
  const auto middle = sorted.begin() + static_cast<std::ptrdiff_t>(sorted.size() / 2);
  std::nth_element(sorted.begin(), middle, sorted.end());
  const double median = *middle;
  // What others share among them is the less the more they are.
  const double share = std::min(1.0, portable::log(static_cast<double>(sorted.size())) / portable::log(kMany));
  for (std::size_t t = 0; t < out.size(); ++t) {
    const double x = value_squares[t];
    if (!(x > 0)) continue;  // all zeros: a slot that nothing was written to
    double bits = t < kSinks && sorted.size() > kSinks ? kSinkBits : 0;
    if (x * kFar < median) {
      const double ratio = std::min(median / x, std::exp2(kMostBits));
      bits = std::max(bits, std::min(kPower * portable::log(ratio) / portable::log(2), kMostBits));
    }
    out[t] = static_cast<float>(share * bits);
  }
  return out;
}

Saliency measure_saliency(DumpReader& dump, const Recognition& recognition, const SaliencyOptions& options) {
  return Measuring(dump, recognition, options).run(find_heads(dump.dump(), recognition, 0));
}

bool weighs(const RuleSet& rules) {
  return std::any_of(rules.rules.begin(), rules.rules.end(),
                     [](const Rule& rule) { return Pipeline::parse(rule.pipeline).weighs(); });
}

}  // namespace kvzip
