// SPDX-License-Identifier: Apache-2.0
// Every coder with a model on codes of 2, 4 and 8 bits. The limit is one table lookup a symbol; of `rans`, which
// searches instead, the operations that rans_bench.cpp counts for a model that learns.
#include <algorithm>

#include "tests/bench/bench.hpp"
#include "tests/bench/symbols.hpp"

namespace kvzip::bench {

void add_coders() {
  for (const CoderRow& row : coder_table()) {
    if (row.name == "pack") continue;
    for (const unsigned bits : {2u, 4u, 8u}) {
      const double operations = 8.0 * (std::min(1u << bits, 16u) - 1) + 20;
      const bool searches = row.name == "rans";
      add_coder(
          "coder/" + std::string(row.name) + "/" + std::to_string(bits) + "_bits", make_coder(row.name), 1u << bits,
          [=] { return kValues * (searches ? operations / lane_operations_per_second() : 1 / lookups_per_second()); });
    }
  }
}

}  // namespace kvzip::bench
