// SPDX-License-Identifier: Apache-2.0
// The candidates of a target: for every unit one transform and a ladder of quantiser steps, and the lossless pipeline.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "curves.hpp"

namespace kvzip::tool {

/// Steps are fractions of a unit's root mean square, half an octave apart: errors from about 0.0006 to 1.
inline constexpr std::size_t kRungs = 23;
inline constexpr std::size_t kLossless = kRungs;  // the candidate behind the ladder
double rung_step(const Unit& unit, double rung);

/// A step as pipelines state it: four digits, rounded down.
double stated_step(double step);

/// What stands before the quantiser, for keys and for values.
struct Transforms {
  std::string key, value;
  const std::string& of(Role role) const { return role == Role::key ? key : value; }
};
/// The transforms that cost the least bytes at an error of about a tenth, measured on a share of the tiles. A rotation
/// is tried only where the dump says what it is.
Transforms choose_transforms(const CurveInput& input, const std::vector<Unit>& units, double share);

enum class Points { middle, centroid };
std::string ladder_pipeline(const std::string& transform, double step, Points points);
inline constexpr std::string_view kLosslessPipeline = "planes,rans";
/// One rule for each unit; queries are stored losslessly.
RuleSet rules_for(const std::vector<Unit>& units, const std::vector<std::string>& pipelines);

}  // namespace kvzip::tool
