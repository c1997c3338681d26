// SPDX-License-Identifier: Apache-2.0
// The stage `lowrank`: products with each head's matrix. The limit is arithmetic: a product with `rank` vectors takes
// 2 * rank operations a value; there are two in each power iteration, and one to subtract or add the outcome.
#include "tests/bench/bench.hpp"

namespace kvzip::bench {

void add_lowrank() {
  constexpr double kProduct = 2.0 * 4 * kValues, kLoops = 3;
  add_stage(
      "lowrank/rank_4", "lowrank", {"rank=4", "loops=3", "per=head"},
      [] { return (2 * kLoops + 1) * kProduct / flops_per_second(); }, [] { return kProduct / flops_per_second(); });
}

}  // namespace kvzip::bench
