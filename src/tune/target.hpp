// SPDX-License-Identifier: Apache-2.0
// compress --target-*: the setting that reaches a size or an error, found on measured rate and distortion.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "kvzip/container.hpp"
#include "src/measure/fidelity.hpp"

namespace kvzip::tool {

/// At most one is given.
struct TargetOptions {
  std::optional<double> ratio, bits, nrmse, attention, max_error;
  FidelityOptions fidelity;

  bool any() const { return ratio || bits || nrmse || attention || max_error; }
};

struct TargetOutcome {
  KvzOptions options;  // rules of every layer, and the results to store
  bool met = false;    // within 1 %
  std::string said;    // one line: what was wanted, what was reached, how, and how long it took
};

/// Searches; `base` has the chunk and the user's texts. fail() with invalid_argument when the dump has no keys or
/// values, or no queries where attention is wanted.
TargetOutcome find_target(DumpReader& reader, const Recognition& recognition, const TargetOptions& target,
                          const KvzOptions& base, unsigned threads, bool quiet);

}  // namespace kvzip::tool
