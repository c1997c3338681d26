// SPDX-License-Identifier: Apache-2.0
// Rows of floats to the codes of a uniform quantiser around zero and back; see codec/stages/uniform.cpp.
#pragma once

#include <cstddef>
#include <cstdint>

namespace kvzip::kernels {

/// A code is q + zero, where q has the sign of x:
///   |q| = round(min(|x| / step, zero)), ties to even, or with `dead_zone` floor(min(|x| / step, zero) + round)
///   value = sign(q) (|q| - d) step, where d is 0 for q = 0, `one` for |q| = 1 and `more` beyond
struct UniformSteps {
  float step, zero;
  bool dead_zone = false;
  float round = 0;
  float one = 0, more = 0;
};
/// codes[i] = low byte of the code, high_codes[i] = high byte unless null.
void uniform_codes(const float* x, std::size_t n, const UniformSteps& u, std::uint8_t* codes, std::uint8_t* high_codes);
/// x[i] = value of a code, never -0.
void uniform_values(const std::uint8_t* codes, const std::uint8_t* high_codes, std::size_t n, const UniformSteps& u,
                    float* x);
/// x[i] += value of a code.
void uniform_values_add(const std::uint8_t* codes, const std::uint8_t* high_codes, std::size_t n, const UniformSteps& u,
                        float* x);

/// How far values lie below their levels, in 1/65536 of a step and at most one step, summed for |q| = 1 and for |q|
/// > 1. Integers, so that the order of the sums does not matter.
struct UniformSums {
  std::int64_t one = 0, ones = 0;    // sum and count for |q| = 1
  std::int64_t more = 0, mores = 0;  // for |q| > 1
};
void uniform_sums(const float* x, const std::uint8_t* codes, const std::uint8_t* high_codes, std::size_t n,
                  const UniformSteps& u, UniformSums& sums);

}  // namespace kvzip::kernels
