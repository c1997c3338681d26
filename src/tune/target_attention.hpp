// SPDX-License-Identifier: Apache-2.0
// What each rung of the ladder does to attention, one unit at a time.
#pragma once

#include "src/measure/fidelity.hpp"
#include "src/tune/target_ladder.hpp"

namespace kvzip::tool {

struct AttentionCurves {
  /// error[u][c]: the squared output nrmse, summed over the heads of unit u's layer, when this unit alone is decoded
  /// from candidate c. 0 for the lossless one.
  std::vector<std::vector<double>> error;
  std::size_t heads = 0;  // of all layers
  std::size_t encodes = 0;
};
/// Some rungs are measured, with few queries; between them straight lines join the logarithms of a unit's squared error
/// (`curves`) and of its attention's.
AttentionCurves measure_attention(const CurveInput& input, const std::vector<Unit>& units,
                                  const std::vector<std::vector<Point>>& curves,
                                  const std::function<std::string(std::size_t, std::size_t)>& texts,
                                  FidelityOptions options, bool quiet);

}  // namespace kvzip::tool
