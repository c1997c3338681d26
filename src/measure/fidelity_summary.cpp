// SPDX-License-Identifier: Apache-2.0
// From heads to layers and to all: errors of values are pooled, attention is averaged over heads.
#include <algorithm>
#include <cmath>
#include <limits>

#include "src/measure/fidelity.hpp"

namespace kvzip::tool {
namespace {

/// Means of figures; of the nrmse root mean squares.
class Mean {
 public:
  void add(const AttentionError& error) {
    logits_ += error.logits_nrmse() * error.logits_nrmse();
    kl_ += error.kl();
    overlap_ += error.top_overlap();
    output_ += error.output_nrmse() * error.output_nrmse();
    cosine_ += error.output_cosine();
    ++heads_;
  }
  std::optional<AttentionFigures> get() const {
    if (heads_ == 0) return {};
    const auto n = static_cast<double>(heads_);
    return AttentionFigures{std::sqrt(logits_ / n), kl_ / n, overlap_ / n, std::sqrt(output_ / n), cosine_ / n};
  }

 private:
  double logits_ = 0, kl_ = 0, overlap_ = 0, output_ = 0, cosine_ = 0;
  std::uint64_t heads_ = 0;
};

std::optional<ValueFigures> figures(const Distortion& d) {
  if (d.values() == 0 && d.nonfinite_mismatches() == 0) return {};
  return ValueFigures::of(d);
}

/// What `worst` ranks by: attention before its proxy before values.
double error_of(const FidelitySummary& all, bool attention, bool proxy) {
  if (attention) return all.attention ? all.attention->output_nrmse : -1;
  if (proxy) return all.proxy ? all.proxy->output_nrmse : -1;
  const auto square = [](const std::optional<ValueFigures>& f) { return f ? f->nrmse * f->nrmse : 0; };
  return square(all.key) + square(all.value);
}

}  // namespace

double Proxy::pair_nrmse() const {
  if (pair_error == 0) return 0;
  return pair_energy == 0 ? std::numeric_limits<double>::infinity() : std::sqrt(pair_error / pair_energy);
}

ValueFigures ValueFigures::of(const Distortion& d) {
  return {d.values(), d.nonfinite_mismatches(), d.max_abs(), d.nrmse(), d.snr_db(), d.cosine_min(), d.cosine_mean()};
}

FidelitySummary summarise(std::span<const HeadFidelity> heads) {
  Distortion key, value;
  Mean attention, attention2, proxy;
  double pairs = 0;
  std::uint64_t with_pairs = 0;
  for (const HeadFidelity& head : heads) {
    key.merge(head.key);
    value.merge(head.value);
    if (head.attention) attention.add(*head.attention);
    if (head.attention2) attention2.add(*head.attention2);
    if (!head.proxy) continue;
    proxy.add(head.proxy->keys_as_queries);
    pairs += head.proxy->pair_nrmse() * head.proxy->pair_nrmse();
    ++with_pairs;
  }
  FidelitySummary out{figures(key), figures(value), attention.get(), attention2.get(), proxy.get(), {}};
  if (with_pairs > 0) out.pair_nrmse = std::sqrt(pairs / static_cast<double>(with_pairs));
  return out;
}

const LayerFidelity* Fidelity::worst() const {
  const LayerFidelity* worst = nullptr;
  const bool attention = all.attention.has_value(), proxy = all.proxy.has_value();
  for (const LayerFidelity& layer : layers) {
    if (worst == nullptr || error_of(layer.all, attention, proxy) > error_of(worst->all, attention, proxy)) {
      worst = &layer;
    }
  }
  return worst;
}

}  // namespace kvzip::tool
