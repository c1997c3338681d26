// SPDX-License-Identifier: Apache-2.0
#include "codec/kernels/instruction_set.hpp"

#include <hwy/highway.h>

namespace kvzip::kernels {
namespace {

/// The one without vector instructions, which every build holds (HWY_COMPILE_ALL_ATTAINABLE).
constexpr std::int64_t kPlain = HWY_BASELINE_SCALAR;

}  // namespace

std::vector<InstructionSet> instruction_sets() {
  // Asked once: what Highway reports follows use_instruction_set().
  static const std::vector<InstructionSet> kAll = [] {
    std::vector<InstructionSet> out;
    std::int64_t left = (hwy::SupportedTargets() | kPlain) & HWY_ATTAINABLE_TARGETS;
    for (; left != 0; left &= left - 1) out.push_back({left & -left, hwy::TargetName(left & -left)});
    return out;
  }();
  return kAll;
}

std::vector<std::string_view> compiled_instruction_sets() {
  std::vector<std::string_view> out;
  for (std::int64_t left = HWY_ATTAINABLE_TARGETS; left != 0; left &= left - 1) {
    out.emplace_back(hwy::TargetName(left & -left));
  }
  return out;
}

void use_instruction_set(std::int64_t id) {
  instruction_sets();
  hwy::SetSupportedTargetsForTest(id);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

std::string_view instruction_set_name() {
  const std::int64_t now = hwy::SupportedTargets() & HWY_ATTAINABLE_TARGETS;
  return hwy::TargetName(now & -now);
}

}  // namespace kvzip::kernels
