// SPDX-License-Identifier: Apache-2.0
#include "src/tune/target_bound.hpp"

#include <algorithm>
#include <array>
#include <limits>

#include "src/report/progress.hpp"
#include "src/report/report.hpp"

namespace kvzip::tool {
namespace {

// Of the widest step there can be.
constexpr std::array<double, 4> kFractions{1, 0.97, 0.9, 0.5};
// Candidates: the steps behind the unit's transform, the same without a transform, and the lossless pipeline.
constexpr std::size_t kPlain = kFractions.size(), kExact = 2 * kPlain;

std::string candidate(const BoundSearch& s, std::size_t u, std::size_t c) {
  if (c == kExact) return std::string(kLosslessPipeline);
  const std::string transform = c < kPlain ? s.transforms.of(s.units[u].role) : std::string();
  return ladder_pipeline(transform, stated_step(2 * s.bound * kFractions[c % kPlain]), Points::middle);
}

/// For each unit the cheapest of its transform, no transform and no quantiser, then the widest step whose sampled tiles
/// keep the bound.
std::vector<std::size_t> first_picks(const BoundSearch& s, double& encodes) {
  std::vector<std::size_t> measured, pick(s.units.size(), kExact);
  for (std::size_t c = 0; c <= kPlain; ++c) measured.push_back(c);
  measured.push_back(kExact);
  ProgressLine line("curves", !s.quiet);
  const auto text = [&](std::size_t u, std::size_t m) { return candidate(s, u, measured[m]); };
  const Curves found = measure_curves(s.input, s.units, measured.size(), text, s.share, line.callback());
  encodes += found.encodes;
  for (std::size_t u = 0; u < s.units.size(); ++u) {
    const std::vector<Point>& points = found.points[u];
    std::size_t fraction = 0;
    while (fraction + 1 < kPlain && points[fraction].max_abs > s.bound) ++fraction;
    const bool plain = points[kPlain].bytes < points[0].bytes;
    if (std::min(points[kPlain].bytes, points[0].bytes) < points.back().bytes)
      pick[u] = fraction + (plain ? kPlain : 0);
  }
  return pick;
}

}  // namespace

Bounded search_bound(const BoundSearch& s, const std::function<Trial(const std::vector<std::string>&)>& try_pipelines) {
  Bounded out;
  std::vector<std::size_t> pick(s.units.size(), kExact);
  if (s.bound > 0) pick = first_picks(s, out.encodes);
  const auto texts = [&] {
    std::vector<std::string> pipelines;
    for (std::size_t u = 0; u < s.units.size(); ++u) pipelines.push_back(candidate(s, u, pick[u]));
    return pipelines;
  };
  std::vector<std::size_t> best = pick, tried;
  std::vector<double> least(s.units.size(), std::numeric_limits<double>::infinity());
  bool narrower = true;
  for (std::size_t trials = 0; narrower && trials + 1 < s.trials; ++trials) {
    out.trial = try_pipelines(texts());
    tried = pick, narrower = false;
    for (std::size_t u = 0; u < s.units.size(); ++u) {
      const TrialUnit& of_unit = out.trial.units[{s.units[u].role, s.units[u].layer}];
      if (of_unit.bytes < least[u]) least[u] = of_unit.bytes, best[u] = pick[u];
      if (pick[u] == kExact || of_unit.raw_frames == 0) continue;
      pick[u] = pick[u] % kPlain + 1 == kPlain ? kExact : pick[u] + 1;
      narrower = true;
    }
  }
  pick = best;
  out.pipelines = texts();
  if (pick != tried) out.trial = try_pipelines(out.pipelines);
  return out;
}

}  // namespace kvzip::tool
