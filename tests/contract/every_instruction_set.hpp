// SPDX-License-Identifier: Apache-2.0
// What tests of kernels share: the same work on every instruction set, and ordinary and awkward numbers.
#pragma once

#include <array>
#include <cstring>
#include <optional>

#include "codec/kernels/instruction_set.hpp"
#include "tests/contract/reference_drive.hpp"

namespace kvzip::test {

/// Runs work() on every instruction set; its result must be the same, bit for bit. Returns it.
template <typename Work>
auto on_every_instruction_set(Work&& work) {
  struct Restore {
    ~Restore() { kernels::use_instruction_set(0); }
  } restore;
  std::optional<decltype(work())> first;
  for (const kernels::InstructionSet& target : kernels::instruction_sets()) {
    kernels::use_instruction_set(target.id);
    auto result = work();
    if (!first) first = result;
    CAPTURE(target.name);
    REQUIRE(result.size() == first->size());
    CHECK((result.empty() || std::memcmp(result.data(), first->data(), result.size() * sizeof result[0]) == 0));
  }
  return *first;
}

inline std::vector<float> normal(std::size_t n, std::uint64_t seed) {
  reference::Random random(seed);
  std::vector<float> x(n);
  for (float& v : x) v = static_cast<float>(random.normal());
  return x;
}

/// Values that a comparison may trip over, among ordinary ones.
inline std::vector<float> awkward(std::size_t n, std::uint64_t seed) {
  constexpr float kMost = std::numeric_limits<float>::max(), kTiny = std::numeric_limits<float>::denorm_min();
  constexpr std::array<float, 10> kValues{0.0f, -0.0f, kTiny, -kTiny, 1.0f, 1.0f, -1.0f, kMost, -kMost, 0x1p-126f};
  reference::Random random(seed);
  std::vector<float> x(n);
  for (float& v : x) v = seed % 2 == 0 ? kValues[random.below(kValues.size())] : static_cast<float>(random.normal());
  if (seed % 5 == 4) std::fill(x.begin(), x.end(), -0.0f);
  return x;
}

}  // namespace kvzip::test
