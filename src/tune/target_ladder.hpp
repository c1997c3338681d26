// SPDX-License-Identifier: Apache-2.0
// The candidates of a target: for every unit one transform and a ladder of quantiser steps, and the lossless pipeline.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "codec/portable_math.hpp"
#include "src/tune/curves.hpp"

namespace kvzip::tool {

/// Steps are stored, so what they come from is the same everywhere.
inline constexpr double kLn2 = 0.693147180559945309417;
inline double log2_of(double x) {
  return portable::log(x) / kLn2;
}
inline double exp2_of(double x) {
  return portable::exp(x * kLn2);
}

/// Steps are fractions of a unit's root mean square, half an octave apart from 2^first on: with kFirstRung, errors from
/// about 0.0006 to 1.
inline constexpr std::size_t kRungs = 23;
inline constexpr double kRungsPerOctave = 2, kFirstRung = -9;
inline constexpr std::size_t kLossless = kRungs;  // the candidate behind the ladder
double rung_step(const Unit& unit, double rung, double first = kFirstRung);

/// Curves of the whole ladder from those of some candidates, `measured[m]` of points[u][m]: the lossless one first,
/// then rungs in ascending order, the first and the last among them.
std::vector<std::vector<Point>> between_rungs(const std::vector<std::vector<Point>>& points,
                                              const std::vector<std::size_t>& measured);

/// A step as pipelines state it: four digits, rounded down.
double stated_step(double step);

/// What stands before the quantiser, for keys and for values.
struct Transforms {
  std::string key, value;
  const std::string& of(Role role) const { return role == Role::key ? key : value; }
};
/// The transforms that cost the least bytes at an error of about a tenth, measured on a share of the tiles of some
/// layers. A rotation is tried only where the dump says what it is. Adds its work to `encodes`.
Transforms choose_transforms(const CurveInput& input, const std::vector<Unit>& units, double share, double& encodes);

/// What quantises: `uniform`, with one step a unit; `adapt`, with the same step for all tokens, or with steps that
/// follow their saliency.
enum class Quantiser { uniform, adapt, weighed_adapt };
/// The smallest step over a root mean square that is left to `adapt`; its own are hardly smaller.
inline constexpr double kLeastAdaptStep = 0.02;
/// `step` is a fraction of the tile's root mean square.
std::string adapt_pipeline(Role role, double step, Quantiser quantiser);

enum class Points { middle, centroid };
std::string ladder_pipeline(const std::string& transform, double step, Points points);
inline constexpr std::string_view kLosslessPipeline = "planes,rans";
/// One rule for each unit; queries are stored losslessly.
RuleSet rules_for(const std::vector<Unit>& units, const std::vector<std::string>& pipelines);

}  // namespace kvzip::tool
