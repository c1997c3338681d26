// SPDX-License-Identifier: Apache-2.0
// A value of head h, token t, channel c is
//
//   bias[c] + scale[c] * swing[t] * (loadings[c] . factors[t] + noise)
//
// The factors are few and shared: some by all layers, some by the heads of one layer. That gives a cache its low rank
// within a layer and across layers. Factors follow the token's identity (so repeated words repeat) and drift slowly.
// Keys and queries are then rotated.
#include "src/synth/synth_model.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "codec/portable_math.hpp"
#include "codec/splitmix64.hpp"

namespace kvzip {
namespace {

constexpr std::size_t kSharedFactors = 24, kOwnFactors = 16, kFactors = kSharedFactors + kOwnFactors;
constexpr std::uint64_t kWarmTokens = 192;             // the drift of a block starts this many tokens before it
constexpr std::size_t kLanes = 16;                     // channels computed together
constexpr double kLogVocabulary = 10.373491181781864;  // 32000 words

// Channel magnitudes of TinyLlama-1.1B (mean absolute value of a channel over the median of its layer; keys before
// rotation), geometric mean over a first, a middle and a last layer, at these quantiles of the channels.
constexpr std::array<double, 11> kQuantile{0, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 1};
constexpr std::array<double, 11> kKeyRatio{0.199, 0.333, 0.402, 0.598, 1, 1.681, 2.769, 3.631, 5.339, 7.836, 13.62};
constexpr std::array<double, 11> kValueRatio{0.433, 0.566, 0.622, 0.755, 1, 1.617, 2.773, 3.676, 5.108, 5.723, 8.675};
// The medians themselves in the first, the middle and the last layer.
constexpr std::array<double, 3> kKeyMedian{0.4393, 1.331, 1.3225};
constexpr std::array<double, 3> kValueMedian{0.002961, 0.1389, 0.31035};

/// What differs between keys and values. In the same figures the constant part of a channel outweighs its deviation by
/// about 2 * ratio^0.65 (keys) and 1.25 * ratio^0.25 (values). They come from one repeated sentence, which overstates
/// what is constant, so both start lower here.
struct Kind {
  const std::array<double, 11>& ratio;
  const std::array<double, 3>& median;
  double constant, constant_power;
  double shared, own, noise;  // shares of the variance
  double low_frequency;       // pull of large channels towards slowly rotating pairs
  float sink;                 // size of a sink token's row against others (values)
};
constexpr Kind kKey{kKeyRatio, kKeyMedian, 1.6, 0.65, 0.40, 0.30, 0.30, 0.8, 1.0f};
constexpr Kind kValue{kValueRatio, kValueMedian, 0.6, 0.25, 0.25, 0.30, 0.45, 0.0, 0.06f};

enum Purpose : std::uint64_t { kProfile, kLoading, kToken, kTokenFactor, kContextFactor, kSwing, kNoise, kSink };

template <typename... Ids>
std::uint64_t key_of(std::uint64_t seed, Ids... ids) {
  std::uint64_t key = splitmix64(seed, 0);
  ((key = splitmix64(key, static_cast<std::uint64_t>(ids))), ...);
  return key;
}

double uniform(std::uint64_t bits) {
  return (static_cast<double>(bits >> 11) + 0.5) * 0x1p-53;
}

/// Quantiles of a logistic distribution of unit variance: a bell with somewhat heavier tails than the normal one.
constexpr std::size_t kBellSize = 4096;
const std::array<float, kBellSize>& bell() {
  static const auto table = [] {
    std::array<float, kBellSize> out{};
    double squares = 0;
    std::array<double, kBellSize> x{};
    for (std::size_t i = 0; i < kBellSize; ++i) {
      const double p = (static_cast<double>(i) + 0.5) / kBellSize;
      x[i] = portable::log(p / (1 - p));
      squares += x[i] * x[i];
    }
    const double scale = std::sqrt(squares / kBellSize);
    for (std::size_t i = 0; i < kBellSize; ++i) out[i] = static_cast<float>(x[i] / scale);
    return out;
  }();
  return table;
}

/// Independent numbers of zero mean and unit variance; number i depends on the key and i only.
void fill_bell(std::uint64_t key, std::span<float> out) {
  const auto& table = bell();
  for (std::size_t i = 0; i < out.size(); i += 4) {
    const std::uint64_t h = splitmix64(key, i / 4);
    const std::size_t n = std::min<std::size_t>(4, out.size() - i);
    for (std::size_t k = 0; k < n; ++k) out[i + k] = table[(h >> (16 * k)) % kBellSize];
  }
}

double interpolate_log(std::span<const double> x, std::span<const double> y, double at) {
  std::size_t i = 1;
  while (i + 1 < x.size() && at > x[i]) ++i;
  const double f = (at - x[i - 1]) / (x[i] - x[i - 1]);
  return portable::exp(portable::log(y[i - 1]) * (1 - f) + portable::log(y[i]) * f);
}

/// Mean absolute value of k plus a bell-shaped variable of unit deviation.
double mean_magnitude(double k) {
  constexpr std::size_t kStride = 16;
  double sum = 0;
  for (std::size_t i = kStride / 2; i < kBellSize; i += kStride) sum += std::fabs(k + bell()[i]);
  return sum * kStride / kBellSize;
}

const Kind& kind_of(Role role) {
  return role == Role::value ? kValue : kKey;
}

/// Weights of `n` factors: a few strong ones and a long tail, squares adding up to `share`.
void factor_weights(double share, std::span<double> out) {
  double sum = 0;
  for (std::size_t r = 0; r < out.size(); ++r) sum += 1.0 / static_cast<double>((r + 1) * (r + 1));
  for (std::size_t r = 0; r < out.size(); ++r) out[r] = std::sqrt(share / sum) / static_cast<double>(r + 1);
}

/// How much of a factor carries over from one token to the next: the first of each set are topics, the last are words.
double carry(std::size_t factor, std::size_t factors) {
  return 0.97 * (1 - static_cast<double>(factor) / static_cast<double>(factors - 1));
}

}  // namespace

SynthModel::SynthModel(const SynthOptions& options) : options_(options) {
  const std::size_t dim = options.head_dim;
  padded_dim_ = (dim + kLanes - 1) / kLanes * kLanes;
  profiles_.reserve(std::size_t{2} * options.layers * options.heads * dim);
  for (std::uint32_t layer = 0; layer < options.layers; ++layer) {
    add_profile(Role::key, layer);
    add_profile(Role::value, layer);
  }
  if (options.rope_theta > 0) {
    for (std::size_t i = 0; i < dim / 2; ++i) {
      const double exponent = -2.0 * static_cast<double>(i) / static_cast<double>(dim);
      frequencies_.push_back(portable::exp(exponent * portable::log(options.rope_theta)));
    }
  }
}

void SynthModel::add_profile(Role role, std::uint32_t layer) {
  const Kind& kind = kind_of(role);
  const std::size_t dim = options_.head_dim, channels = dim * options_.heads;
  const std::uint64_t key = key_of(options_.seed, kProfile, role, layer);
  const double depth = options_.layers > 1 ? static_cast<double>(layer) / (options_.layers - 1) : 0.5;
  const double median = interpolate_log(std::array{0.0, 0.5, 1.0}, kind.median, depth);
  // Layers differ in how far their outliers reach.
  const double reach = 0.85 + 0.3 * uniform(splitmix_bits(key));

  std::vector<double> score(channels);
  for (std::size_t c = 0; c < channels; ++c) {
    const double pair = static_cast<double>(c % dim % (dim / 2)) / (static_cast<double>(dim) / 2);
    score[c] = uniform(splitmix_bits(key + 2 * c + 1)) + kind.low_frequency * pair;
  }
  std::vector<std::size_t> order(channels);
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(),
            [&](auto a, auto b) { return score[a] < score[b] || (score[a] == score[b] && a < b); });

  std::vector<float> spread(channels);
  fill_bell(splitmix64(key, 0), spread);
  const std::size_t at = profiles_.size();
  profiles_.resize(at + channels);
  for (std::size_t rank = 0; rank < channels; ++rank) {
    const std::size_t c = order[rank];
    const std::uint64_t bits = splitmix_bits(key + 2 * c + 2);
    const double quantile = (static_cast<double>(rank) + uniform(bits)) / static_cast<double>(channels);
    const double ratio = portable::exp(reach * portable::log(interpolate_log(kQuantile, kind.ratio, quantile)));
    const double constant = kind.constant * portable::exp(kind.constant_power * portable::log(ratio) + 0.5 * spread[c]);
    const double scale = median * ratio / mean_magnitude(constant);
    const double sign = (bits & 1) != 0 ? 1 : -1;
    profiles_[at + c] = {static_cast<float>(sign * constant * scale), static_cast<float>(scale),
                         static_cast<float>(ratio)};
  }
}

std::vector<float> SynthModel::loadings(Role role, std::uint32_t layer, std::uint32_t head) const {
  const Kind& kind = kind_of(role);
  std::array<double, kFactors> weight{};
  factor_weights(kind.shared, std::span(weight).first(kSharedFactors));
  factor_weights(kind.own, std::span(weight).subspan(kSharedFactors));
  std::vector<float> out(kFactors * padded_dim_);
  for (std::size_t r = 0; r < kFactors; ++r) {
    const std::span<float> row(out.data() + r * padded_dim_, options_.head_dim);
    fill_bell(key_of(options_.seed, kLoading, role, layer, head, r), row);
    for (float& x : row) x *= static_cast<float>(weight[r]);
  }
  return out;
}

SynthHead SynthModel::head(Role role, std::uint32_t layer, std::uint32_t head) const {
  const std::size_t dim = options_.head_dim;
  const std::uint32_t kv_head = role == Role::query ? head / (options_.query_heads / options_.heads) : head;
  const std::size_t row = (std::size_t{2} * layer + (role == Role::value ? 1 : 0)) * options_.heads + kv_head;
  SynthHead out{role, layer, head, {}, loadings(role, layer, head), std::vector<float>(dim)};
  out.channels.assign(profiles_.begin() + static_cast<std::ptrdiff_t>(row * dim),
                      profiles_.begin() + static_cast<std::ptrdiff_t>((row + 1) * dim));
  if (role == Role::value) return out;

  // The sink's key lies in the slow pairs, where rotation leaves it in reach of every query.
  fill_bell(key_of(options_.seed, kSink, layer, kv_head), out.sink);
  const double depth = options_.layers > 1 ? static_cast<double>(layer) / (options_.layers - 1) : 0.5;
  const auto size = static_cast<float>(interpolate_log(std::array{0.0, 0.5, 1.0}, kKeyMedian, depth));
  for (std::size_t c = 0; c < dim; ++c) out.sink[c] *= c % (dim / 2) < dim / 4 ? 0.0f : size;
  if (role == Role::key) return out;

  // Queries look for what keys show (so attention has structure), point at the sink, and are small where keys are
  // large.
  const std::vector<float> seen = loadings(Role::key, layer, kv_head);
  for (std::size_t i = 0; i < seen.size(); ++i) out.loadings[i] = 0.8f * seen[i] + 0.6f * out.loadings[i];
  float norm = 0;
  for (const float x : out.sink) norm += x * x;
  norm = norm > 0 ? std::sqrt(norm) : 1;
  for (std::size_t c = 0; c < dim; ++c) {
    out.channels[c].bias = 5 * out.sink[c] / norm;
    out.channels[c].scale = 1 / std::sqrt(out.channels[c].ratio);
  }
  return out;
}

std::int32_t SynthModel::token_id(std::uint64_t token) const {
  // Zipf's law: the n-th most frequent word comes with a probability of about 1 / n.
  const double u = uniform(key_of(options_.seed, kToken, token));
  return static_cast<std::int32_t>(portable::exp(u * kLogVocabulary)) - 1;
}

/// Rows of kFactors numbers for the tokens of a block. Each factor is a first-order autoregression over the tokens that
/// always starts at the same token for the same block, so a block never depends on how it is reached.
void SynthModel::factors(std::uint32_t layer, std::uint64_t block, std::span<float> out) const {
  std::array<float, kFactors> carried{}, fresh{};
  for (std::size_t r = 0; r < kFactors; ++r) {
    const bool shared = r < kSharedFactors;
    const double c = shared ? carry(r, kSharedFactors) : carry(r - kSharedFactors, kOwnFactors);
    carried[r] = static_cast<float>(c);
    fresh[r] = static_cast<float>(std::sqrt(1 - c * c));
  }
  const std::uint64_t first = block * kBlockTokens, end = first + kBlockTokens;
  const std::uint64_t start = first > kWarmTokens ? first - kWarmTokens : 0;
  std::array<float, kFactors> state{}, news{};
  for (std::uint64_t token = start; token < end; ++token) {
    fill_bell(key_of(options_.seed, kTokenFactor, token_id(token)), std::span(news).first(kSharedFactors));
    fill_bell(key_of(options_.seed, kContextFactor, layer, token), std::span(news).subspan(kSharedFactors));
    for (std::size_t r = 0; r < kFactors; ++r) {
      state[r] = token == start ? news[r] : carried[r] * state[r] + fresh[r] * news[r];
    }
    if (token >= first)
      std::copy(state.begin(), state.end(), out.begin() + static_cast<std::ptrdiff_t>((token - first) * kFactors));
  }
}

void SynthModel::block(const SynthHead& head, std::uint64_t block, std::span<float> out) const {
  const Kind& kind = kind_of(head.role);
  const std::size_t dim = options_.head_dim;
  const auto noise_size = static_cast<float>(std::sqrt(kind.noise));
  std::array<float, kBlockTokens * kFactors> factor{};
  factors(head.layer, block, factor);
  std::vector<float> noise(padded_dim_);
  for (std::size_t i = 0; i < kBlockTokens; ++i) {
    const std::uint64_t token = block * kBlockTokens + i;
    float* row = out.data() + i * dim;
    if (token < kSinkTokens && head.role == Role::key) {
      std::copy(head.sink.begin(), head.sink.end(), row);
      continue;
    }
    const std::uint64_t bits = key_of(options_.seed, kSwing, head.role, head.layer, token);
    // Most tokens swing alike; one in a hundred swings far.
    float swing =
        static_cast<float>(portable::exp(0.2 * bell()[bits % kBellSize])) * (bits >> 32 < 0x2900000 ? 2.5f : 1.0f);
    float size = 1;
    if (token < kSinkTokens && head.role == Role::value) size = kind.sink;
    fill_bell(key_of(options_.seed, kNoise, head.role, head.layer, head.head, token), noise);
    for (std::size_t c0 = 0; c0 < dim; c0 += kLanes) {
      std::array<float, kLanes> sum{};
      for (std::size_t r = 0; r < kFactors; ++r) {
        const float z = factor[i * kFactors + r];
        const float* a = head.loadings.data() + r * padded_dim_ + c0;
        for (std::size_t k = 0; k < kLanes; ++k) sum[k] += z * a[k];
      }
      const std::size_t n = std::min(kLanes, dim - c0);
      for (std::size_t k = 0; k < n; ++k) {
        const SynthChannel& channel = head.channels[c0 + k];
        row[c0 + k] = size * (channel.bias + channel.scale * swing * (sum[k] + noise_size * noise[c0 + k]));
      }
    }
  }
  if (head.role != Role::value && options_.rope_theta > 0) rotate(block * kBlockTokens, out);
}

/// The rotation of a block's first token is computed, that of the next ones by turning on from there.
void SynthModel::rotate(std::uint64_t first_token, std::span<float> rows) const {
  const std::size_t dim = options_.head_dim, pairs = dim / 2;
  std::vector<double> cosine(pairs), sine(pairs), step_cosine(pairs), step_sine(pairs);
  for (std::size_t p = 0; p < pairs; ++p) {
    const auto start = portable::sincos(static_cast<double>(first_token) * frequencies_[p]);
    const auto step = portable::sincos(frequencies_[p]);
    cosine[p] = start.cos;
    sine[p] = start.sin;
    step_cosine[p] = step.cos;
    step_sine[p] = step.sin;
  }
  for (std::size_t i = 0; i < kBlockTokens; ++i) {
    float* low = rows.data() + i * dim;
    float* high = low + pairs;
    for (std::size_t p = 0; p < pairs; ++p) {
      const double x = low[p], y = high[p], c = cosine[p], s = sine[p];
      low[p] = static_cast<float>(x * c - y * s);
      high[p] = static_cast<float>(x * s + y * c);
      cosine[p] = c * step_cosine[p] - s * step_sine[p];
      sine[p] = s * step_cosine[p] + c * step_sine[p];
    }
  }
}

}  // namespace kvzip
