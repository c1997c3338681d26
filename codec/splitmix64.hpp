// SPDX-License-Identifier: Apache-2.0
// Numbers that look random and are the same everywhere, at any place of a sequence: splitmix64 (Steele, Lea and Flood
// 2014).
#pragma once

#include <cstdint>

namespace kvzip {

inline constexpr std::uint64_t kSplitmixStep = 0x9e3779b97f4a7c15u;

/// A one-to-one mapping in which every bit of x touches every bit of the result.
constexpr std::uint64_t splitmix_bits(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

/// Number `index` of the sequence that begins with `seed`.
constexpr std::uint64_t splitmix64(std::uint64_t seed, std::uint64_t index) {
  return splitmix_bits(seed + (index + 1) * kSplitmixStep);
}

}  // namespace kvzip
