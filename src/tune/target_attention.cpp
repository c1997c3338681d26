// SPDX-License-Identifier: Apache-2.0
#include "src/tune/target_attention.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "formats/file.hpp"
#include "formats/kvz/kvz.hpp"
#include "kvzip/container.hpp"
#include "src/report/progress.hpp"
#include "src/report/report.hpp"

namespace kvzip::tool {
namespace {

constexpr std::array<std::size_t, 4> kMeasured{1, 8, 15, 22};  // rungs
static_assert(kMeasured.back() == kRungs - 1);
constexpr std::uint32_t kQueries = 64;  // a head

double layer_error(const Fidelity& fidelity, std::uint32_t layer) {
  double sum = 0;
  for (const LayerFidelity& one : fidelity.layers) {
    if (one.layer != layer) continue;
    for (const HeadFidelity& head : one.heads) {
      const double nrmse = head.attention ? head.attention->output_nrmse() : 0;
      sum += std::isfinite(nrmse) ? nrmse * nrmse : 1;
    }
  }
  return sum;
}

std::size_t measured_heads(const Fidelity& fidelity) {
  std::size_t heads = 0;
  for (const LayerFidelity& layer : fidelity.layers) {
    for (const HeadFidelity& head : layer.heads) heads += head.attention.has_value();
  }
  return heads;
}

double between(const std::vector<Point>& curve, std::size_t c, const std::array<double, kMeasured.size()>& error) {
  const auto hi = static_cast<std::size_t>(std::lower_bound(kMeasured.begin(), kMeasured.end(), c) - kMeasured.begin());
  const double x = curve[c].squared_error;
  // Small errors of attention follow those of values: half the one is half the other.
  if (hi == 0) {
    const double first = curve[kMeasured[0]].squared_error;
    return first > 0 ? error[0] * std::min(1.0, x / first) : error[0];
  }
  if (kMeasured[hi] == c) return error[hi];
  const double a = curve[kMeasured[hi - 1]].squared_error, b = curve[kMeasured[hi]].squared_error;
  const double from = error[hi - 1], to = error[hi];
  if (!(a > 0) || !(b > a) || !(x > 0) || !(from > 0) || !(to > 0)) return std::max(from, to);
  const double t = std::clamp((log2_of(x) - log2_of(a)) / (log2_of(b) - log2_of(a)), 0.0, 1.0);
  return exp2_of((1 - t) * log2_of(from) + t * log2_of(to));
}

}  // namespace

AttentionCurves measure_attention(const CurveInput& input, const std::vector<Unit>& units,
                                  const std::vector<std::vector<Point>>& curves,
                                  const std::function<std::string(std::size_t, std::size_t)>& texts,
                                  FidelityOptions options, bool quiet) {
  options.threads = input.threads;
  options.proxies = false;
  options.queries_per_head = options.queries_per_head == 0 ? kQueries : std::min(options.queries_per_head, kQueries);
  std::array<std::optional<FidelityMeter>, 2> meters;  // with decoded keys only, with decoded values only
  for (const bool values : {false, true}) {
    options.decoded_keys = !values;
    options.decoded_values = values;
    meters[values].emplace(input.reader, input.recognition, options);
  }
  AttentionCurves out;
  std::vector<std::array<double, kMeasured.size()>> measured(units.size());
  for (std::size_t m = 0; m < kMeasured.size(); ++m) {
    ProgressLine line(fmt::format("attention, {} of {}", m + 1, kMeasured.size()), !quiet);
    std::vector<std::string> pipelines;
    for (std::size_t u = 0; u < units.size(); ++u) pipelines.push_back(texts(u, kMeasured[m]));
    KvzOptions coded{rules_for(units, pipelines), input.chunk_tokens, {}};
    if (input.saliency != nullptr) coded.saliency = input.saliency->of(coded.rules);
    fit_options(input.reader, input.recognition, coded, input.threads);
    const TemporaryFile file(temporary_directory() + "/target");
    const auto writer = create_kvz_writer(file.sink(), input.reader.dump(), input.recognition, coded);
    transcode(input.reader, *writer, input.threads, line.callback());
    writer->finish();
    out.encodes += 1;
    const auto reader = open_kvz(file.input(file.path()));
    for (const bool values : {false, true}) {
      const Fidelity fidelity = meters[values]->measure(*reader);
      out.heads = measured_heads(fidelity);
      for (std::size_t u = 0; u < units.size(); ++u) {
        if ((units[u].role == Role::value) == values) measured[u][m] = layer_error(fidelity, units[u].layer);
      }
    }
  }
  out.error.assign(units.size(), std::vector<double>(kRungs + 1));
  for (std::size_t u = 0; u < units.size(); ++u) {
    for (std::size_t c = 0; c < kRungs; ++c) out.error[u][c] = between(curves[u], c, measured[u]);
  }
  return out;
}

}  // namespace kvzip::tool
