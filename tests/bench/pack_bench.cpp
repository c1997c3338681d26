// SPDX-License-Identifier: Apache-2.0
// The coder `pack`: symbols of one byte to bits and back; the limit is memory.
#include "tests/bench/bench.hpp"
#include "tests/bench/symbols.hpp"

namespace kvzip::bench {

void add_pack() {
  for (const unsigned bits : {1u, 2u, 3u, 4u, 8u}) {
    const double packed = static_cast<double>(kValues * bits) / 8.0;
    add_coder("pack/" + std::to_string(bits) + "_bits", make_coder("pack"), 1u << bits,
              [packed] { return memory_seconds(1.0 * kValues, packed); });
  }
}

}  // namespace kvzip::bench
