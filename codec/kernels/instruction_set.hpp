// SPDX-License-Identifier: Apache-2.0
// Which instruction set the kernels run on. The best one is chosen at first use; every one gives the same results,
// which tests and benchmarks check by forcing each.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace kvzip::kernels {

struct InstructionSet {
  std::int64_t id;  // Highway's number of the instruction set
  std::string_view name;
};

/// The sets this build holds and this machine runs, best first; the last one uses no vector instructions.
std::vector<InstructionSet> instruction_sets();
/// The names of all that this build holds, best first, whatever this machine runs.
std::vector<std::string_view> compiled_instruction_sets();
/// Makes every kernel use this one, 0 = the best again. Not while kernels run.
void use_instruction_set(std::int64_t id);
/// The name of the one that kernels use now.
std::string_view instruction_set_name();

}  // namespace kvzip::kernels
