// SPDX-License-Identifier: Apache-2.0
#include "target_ladder.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

namespace kvzip::tool {
namespace {

constexpr double kFirstRung = -9, kRungsPerOctave = 2;
constexpr double kTrialRung = 14;  // 2^-2 of the root mean square: an error of about 0.07

}  // namespace

double rung_step(const Unit& unit, double rung) {
  const double rms = unit.rms();
  return stated_step((rms > 0 ? rms : 1) * std::exp2(kFirstRung + rung / kRungsPerOctave));
}

double stated_step(double step) {
  constexpr double kLeast = 1e-30, kMost = 1e12;  // the stage's range
  step = std::clamp(step, kLeast, kMost);
  const double digit = std::pow(10.0, std::floor(std::log10(step)) - 3);
  const double down = std::floor(step / digit * (1 + 1e-12)) * digit;
  return std::max(kLeast, std::stod(fmt::format("{:.3e}", down)));
}

std::string ladder_pipeline(const std::string& transform, double step, Points points) {
  return fmt::format("{}uniform:step={}{},rans", transform, step, points == Points::centroid ? ":points=centroid" : "");
}

Transforms choose_transforms(const CurveInput& input, const std::vector<Unit>& units, double share) {
  const Rope& rope = input.recognition.model.rope;
  const bool rotated = rope.state == Rope::State::post && rope.theta > 1;
  // Without its rotation a key channel keeps its mean along the tokens (KVQuant, arXiv 2401.18079, section 3.2).
  constexpr std::array<std::string_view, 4> kTransforms{"", "norm:kind=none:center=mean,", "rope,",
                                                        "rope,norm:kind=none:center=mean,"};
  const auto text = [&](std::size_t u, std::size_t c) {
    const bool key = units[u].role == Role::key && rotated;
    return ladder_pipeline(std::string(kTransforms[key ? c : c % 2]), rung_step(units[u], kTrialRung),
                           Points::centroid);
  };
  const auto points = measure_curves(input, units, kTransforms.size(), text, share, {});
  std::array<std::array<double, kTransforms.size()>, 2> bytes{};
  for (std::size_t u = 0; u < units.size(); ++u) {
    for (std::size_t c = 0; c < kTransforms.size(); ++c) bytes[units[u].role == Role::value][c] += points[u][c].bytes;
  }
  const auto best = [&](std::size_t side, std::size_t count) {
    const auto least = std::min_element(bytes[side].begin(), bytes[side].begin() + static_cast<std::ptrdiff_t>(count));
    return std::string(kTransforms[static_cast<std::size_t>(least - bytes[side].begin())]);
  };
  return {best(0, rotated ? kTransforms.size() : 2), best(1, 2)};
}

RuleSet rules_for(const std::vector<Unit>& units, const std::vector<std::string>& pipelines) {
  RuleSet rules;
  rules.name = "target";
  for (std::size_t u = 0; u < units.size(); ++u) {
    Rule rule;
    rule.role = units[u].role;
    rule.any_layer = false;
    rule.from = rule.to = units[u].layer;
    rule.pipeline = canonical_pipeline(pipelines[u]);
    rules.rules.push_back(std::move(rule));
  }
  Rule query;
  query.role = Role::query;
  query.pipeline = canonical_pipeline(kLosslessPipeline);
  rules.rules.push_back(std::move(query));
  return rules;
}

}  // namespace kvzip::tool
