// SPDX-License-Identifier: Apache-2.0
#include "src/report/bound_check.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "kvzip/container.hpp"

namespace kvzip::tool {

std::string BoundCheck::text() const {
  std::string out = fmt::format("bound: every key and value within {} of its original: ", bound);
  if (lost) {
    out += fmt::format("broken, {} has values that are finite on one side only", printable(tensor));
  } else if (holds()) {
    return out + fmt::format("holds, the largest error is {:.6g}", largest);
  } else {
    out += fmt::format("broken, {} has an error of {:.6g}", printable(tensor), largest);
  }
  return out + "; the original may not be what the container was made from";
}

Json BoundCheck::json() const {
  return {
      {"max_abs", bound}, {"holds", holds()}, {"largest", lost ? Json(nullptr) : Json(largest)}, {"tensor", tensor}};
}

std::optional<BoundCheck> check_bound(DumpReader& other, const Comparison& comparison) {
  const auto* kvz = dynamic_cast<const KvzReader*>(&other);
  if (kvz == nullptr || !kvz->description().results || !kvz->description().results->max_error) return {};
  BoundCheck out;
  out.bound = *kvz->description().results->max_error;
  bool any = false;
  for (const TensorComparison& t : comparison.tensors) {
    if (!t.exact || out.lost) continue;
    const std::optional<double> largest = t.exact->largest();
    if (!any || !largest || *largest > out.largest) out.tensor = other.dump().tensors[t.other].name;
    out.lost = !largest;
    out.largest = std::max(out.largest, largest.value_or(0));
    any = true;
  }
  if (!any) return {};
  return out;
}

}  // namespace kvzip::tool
