// SPDX-License-Identifier: Apache-2.0
// compress --max-error: for each unit the pipeline that takes the least bytes while the writer certifies the bound.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "src/tune/target_ladder.hpp"
#include "src/tune/target_trial.hpp"

namespace kvzip::tool {

struct BoundSearch {
  const CurveInput& input;
  const std::vector<Unit>& units;
  const Transforms& transforms;
  double bound = 0;
  double share = 1;  // of the tiles that curves are measured on
  std::size_t trials = 1;
  bool quiet = false;
};
struct Bounded {
  std::vector<std::string> pipelines;  // of each unit
  Trial trial;                         // of the container they make
  double encodes = 0;                  // what the curves cost
};
/// Steps of about twice the bound, the widest that rounding to the dump's type allows. A unit begins with what is
/// cheapest on sampled tiles, and goes on to narrower steps while the writer has to store tiles as they are. The bound
/// holds in every trial; of each unit the shortest one counts.
Bounded search_bound(const BoundSearch& search,
                     const std::function<Trial(const std::vector<std::string>&)>& try_pipelines);

}  // namespace kvzip::tool
