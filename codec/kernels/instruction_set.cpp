// SPDX-License-Identifier: Apache-2.0
#include "codec/kernels/instruction_set.hpp"

#include <hwy/highway.h>

namespace kvzip::kernels {
namespace {

/// The target without vector instructions, which every build holds (HWY_COMPILE_ALL_ATTAINABLE).
constexpr std::int64_t kPlain = HWY_BASELINE_SCALAR;

}  // namespace

std::vector<Target> targets() {
  // Asked once: what Highway reports follows use_target().
  static const std::vector<Target> kAll = [] {
    std::vector<Target> out;
    std::int64_t left = (hwy::SupportedTargets() | kPlain) & HWY_ATTAINABLE_TARGETS;
    for (; left != 0; left &= left - 1) out.push_back({left & -left, hwy::TargetName(left & -left)});
    return out;
  }();
  return kAll;
}

void use_target(std::int64_t id) {
  targets();
  hwy::SetSupportedTargetsForTest(id);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

std::string_view target_name() {
  const std::int64_t now = hwy::SupportedTargets() & HWY_ATTAINABLE_TARGETS;
  return hwy::TargetName(now & -now);
}

}  // namespace kvzip::kernels
