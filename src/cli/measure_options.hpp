// SPDX-License-Identifier: Apache-2.0
// Options of measures and targets, which several commands have.
#pragma once

#include "src/cli/options.hpp"
#include "src/tune/target.hpp"

namespace kvzip::tool {

/// --queries, --queries2, --split, --queries-per-head, --top-k, --attention-scale.
void add_fidelity(CLI::App& app, FidelityOptions& options);
/// --target-ratio, --target-bits, --target-nrmse, --target-attention, --max-error, and the options of attention.
void add_targets(CLI::App& app, TargetOptions& options);

}  // namespace kvzip::tool
