// SPDX-License-Identifier: Apache-2.0
// Options of measures and targets, which several commands have.
#pragma once

#include "src/cli/options.hpp"
#include "src/tune/target_goal.hpp"

namespace kvzip::tool {

/// Of logits. 0, which no user can give, stands for 1/sqrt(head_dim).
void add_attention_scale(CLI::App& app, double& scale);
/// 0 stands for all.
void add_queries_per_head(CLI::App& app, std::uint32_t& most);
/// --queries, --queries2, --split, --queries-per-head, --top-k, --attention-scale.
void add_fidelity(CLI::App& app, FidelityOptions& options);
/// An option for each kind of goal. More than one may be given.
using Goals = std::vector<std::unique_ptr<const Goal>>;
void add_goals(CLI::App& app, Goals& goals);

}  // namespace kvzip::tool
