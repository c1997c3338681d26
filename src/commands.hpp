// SPDX-License-Identifier: Apache-2.0
// The commands. Each puts itself on the command line and, when it is the one that was asked for, sets `action`.
#pragma once

#include "src/cli/options.hpp"

namespace kvzip::tool {

void add_compress(CLI::App& app, Action& action);
void add_decompress(CLI::App& app, Action& action);
void add_append(CLI::App& app, Action& action);
void add_inspect(CLI::App& app, Action& action);
void add_verify(CLI::App& app, Action& action);
void add_recover(CLI::App& app, Action& action);
void add_cut(CLI::App& app, Action& action);
void add_compare(CLI::App& app, Action& action);
void add_diff(CLI::App& app, Action& action);
void add_sweep(CLI::App& app, Action& action);
void add_bench(CLI::App& app, Action& action);
void add_convert(CLI::App& app, Action& action);
void add_prune(CLI::App& app, Action& action);
void add_attend(CLI::App& app, Action& action);
void add_pages(CLI::App& app, Action& action);
void add_list(CLI::App& app, Action& action);
void add_synth(CLI::App& app, Action& action);
void add_plan(CLI::App& app, Action& action);
void add_completion(CLI::App& app, Action& action);

}  // namespace kvzip::tool
