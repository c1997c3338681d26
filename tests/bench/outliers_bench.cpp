// SPDX-License-Identifier: Apache-2.0
// The stage `outliers`: finding the few extreme values of each vector. The limit is reading all values once.
#include "tests/bench/bench.hpp"

namespace kvzip::bench {

void add_outliers() {
  const auto encode = [] { return memory_seconds(4.0 * kValues, 0); };
  for (const char* axis : {"channel", "token", "tile"}) {
    const std::string item = std::string("axis=") + axis;
    add_stage(std::string("outliers/2_percent/") + axis, "outliers", {"share=0.02", item}, encode, {});
  }
}

}  // namespace kvzip::bench
