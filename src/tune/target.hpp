// SPDX-License-Identifier: Apache-2.0
// compress --target-*: the setting that reaches a size or an error, found on measured rate and distortion.
#pragma once

#include <string>

#include "kvzip/container.hpp"
#include "src/measure/fidelity.hpp"
#include "src/measure/saliency_source.hpp"
#include "src/tune/target_goal.hpp"

namespace kvzip::tool {

struct TargetOutcome {
  KvzOptions options;  // rules of every layer, and the results to store
  bool met = false;    // within 1 %
  std::string said;    // one line: what was wanted, what was reached, how, and how long it took
};

/// Searches; `base` has the chunk and the user's texts, `fidelity` is how attention is measured, `saliency` what
/// pipelines that make use of it get (null: nothing). fail() with
/// invalid_argument when the dump has no keys or values, or no queries where attention is wanted.
TargetOutcome find_target(DumpReader& reader, const Recognition& recognition, const Goal& goal,
                          const FidelityOptions& fidelity, const KvzOptions& base, unsigned threads, bool quiet,
                          SaliencySource* saliency = nullptr);

}  // namespace kvzip::tool
