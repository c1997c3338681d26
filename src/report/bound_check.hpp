// SPDX-License-Identifier: Apache-2.0
// A container's stored bound (man/kvz.5, "Results") against what a comparison found.
#pragma once

#include <optional>
#include <string>

#include "src/measure/comparison.hpp"
#include "src/report/report.hpp"

namespace kvzip::tool {

struct BoundCheck {
  double bound = 0, largest = 0;
  bool lost = false;   // a value is finite on one side only, or not finite on both and different
  std::string tensor;  // the one with the largest error, or with a lost value

  bool holds() const { return !lost && largest <= bound; }
  std::string text() const;  // one line
  Json json() const;
};

/// No value when `other` is no container with a bound, or none of its keys and values were compared. A pipe must have
/// been read to its end.
std::optional<BoundCheck> check_bound(DumpReader& other, const Comparison& comparison);

}  // namespace kvzip::tool
