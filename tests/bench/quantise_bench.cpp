// SPDX-License-Identifier: Apache-2.0
// The stage `quant`: extremes of each group, codes, what is left; and back. The limit is memory: floats on one side, a
// byte for each code on the other.
#include "tests/bench/bench.hpp"

namespace kvzip::bench {

void add_quantise() {
  const auto encode = [] { return memory_seconds(4.0 * kValues, 1.0 * kValues); };
  const auto decode = [] { return memory_seconds(1.0 * kValues, 4.0 * kValues); };
  add_stage("quant/4_bits/channel", "quant", {"bits=4", "axis=channel", "group=64"}, encode, decode);
  add_stage("quant/4_bits/token", "quant", {"bits=4", "axis=token", "group=64"}, encode, decode);
  add_stage("quant/2_bits/channel", "quant", {"bits=2", "axis=channel", "group=32"}, encode, decode);
  add_stage("quant/8_bits/token-head", "quant", {"bits=8", "axis=token-head"}, encode, decode);
}

}  // namespace kvzip::bench
