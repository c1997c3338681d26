// SPDX-License-Identifier: Apache-2.0
#include "src/tune/target_ladder.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>

#include "codec/number.hpp"

namespace kvzip::tool {
namespace {

constexpr double kTrialRung = 14;  // 2^-2 of the root mean square: an error of about 0.07
constexpr std::size_t kTrialLayers = 6;

}  // namespace

double rung_step(const Unit& unit, double rung, double first) {
  const double rms = unit.rms();
  return stated_step((rms > 0 ? rms : 1) * exp2_of(first + rung / kRungsPerOctave));
}

std::vector<std::vector<Point>> between_rungs(const std::vector<std::vector<Point>>& points,
                                              const std::vector<std::size_t>& measured) {
  std::vector<std::vector<Point>> out(points.size(), std::vector<Point>(kRungs + 1));
  for (std::size_t u = 0; u < points.size(); ++u) {
    out[u][kLossless] = points[u][0];
    for (std::size_t m = 1; m + 1 < measured.size(); ++m) {
      const Point &a = points[u][m], &b = points[u][m + 1];
      for (std::size_t c = measured[m]; c <= measured[m + 1]; ++c) {
        const double t = static_cast<double>(c - measured[m]) / static_cast<double>(measured[m + 1] - measured[m]);
        const bool logs = a.squared_error > 0 && b.squared_error > 0;
        out[u][c].bytes = a.bytes + t * (b.bytes - a.bytes);
        out[u][c].squared_error = logs ? exp2_of((1 - t) * log2_of(a.squared_error) + t * log2_of(b.squared_error))
                                       : a.squared_error + t * (b.squared_error - a.squared_error);
        out[u][c].max_abs = t < 1 ? a.max_abs : b.max_abs;
      }
    }
  }
  return out;
}

double stated_step(double step) {
  constexpr double kLeast = 1e-30, kMost = 1e12;  // the stage's range
  step = std::clamp(step, kLeast, kMost);
  const auto exponent = static_cast<int>(std::floor(portable::log(step) / portable::log(10)));
  const double digit = *parse_number<double>(fmt::format("1e{}", exponent - 3));
  const double down = std::floor(step / digit * (1 + 1e-12)) * digit;
  return std::max(kLeast, *parse_number<double>(fmt::format("{:.3e}", down)));
}

std::string ladder_pipeline(const std::string& transform, double step, Points points) {
  return fmt::format("{}uniform:step={}{},rans", transform, step, points == Points::centroid ? ":points=centroid" : "");
}

std::string adapt_pipeline(Role role, double step, Quantiser quantiser) {
  constexpr double kLeast = 0.01, kMost = 64;  // the stage's range
  step = stated_step(std::clamp(step, kLeast, kMost));
  // As in kvzip's own presets: the wider the steps, the wider the cell of 0.
  const double round = std::clamp(0.35 - 0.033 * log2_of(step), 0.3, 0.45);
  const bool weighed = quantiser == Quantiser::weighed_adapt;
  return fmt::format("{}adapt:step={}:round={:.3f}{}:width=64:repeats=dump:growth=2{},rans",
                     role == Role::key ? "rope:missing=skip," : "", step, round, weighed ? "" : ":gamma=0:level=0",
                     weighed ? ":heads=1" : "");
}

Transforms choose_transforms(const CurveInput& input, const std::vector<Unit>& units, double share, double& encodes) {
  const Rope& rope = input.recognition.model.rope;
  const bool rotated = rope.state == Rope::State::post && rope.theta > 1;
  // Without its rotation a key channel keeps its mean along the tokens (KVQuant, arXiv 2401.18079, section 3.2).
  constexpr std::array<std::string_view, 4> kTransforms{"", "norm:kind=none:center=mean,", "rope,",
                                                        "rope,norm:kind=none:center=mean,"};
  const auto best_for = [&](Role role, std::size_t count) {
    std::vector<Unit> all, some;
    std::copy_if(units.begin(), units.end(), std::back_inserter(all), [&](const Unit& u) { return u.role == role; });
    const std::size_t layers = std::min(kTrialLayers, all.size());
    for (std::size_t i = 0; i < layers; ++i) some.push_back(all[(2 * i + 1) * all.size() / (2 * layers)]);
    const auto text = [&](std::size_t u, std::size_t c) {
      return ladder_pipeline(std::string(kTransforms[c]), rung_step(some[u], kTrialRung), Points::centroid);
    };
    const Curves curves = measure_curves(input, some, count, text, share, {});
    encodes += curves.encodes;
    std::array<double, kTransforms.size()> bytes{};
    for (const auto& of_unit : curves.points) {
      for (std::size_t c = 0; c < count; ++c) bytes[c] += of_unit[c].bytes;
    }
    const auto least = std::min_element(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(count));
    return std::string(kTransforms[static_cast<std::size_t>(least - bytes.begin())]);
  };
  return {best_for(Role::key, rotated ? kTransforms.size() : 2), best_for(Role::value, 2)};
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
