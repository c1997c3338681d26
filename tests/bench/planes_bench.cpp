// SPDX-License-Identifier: Apache-2.0
// Elements to byte planes and back; the limit is memcpy.
#include "codec/kernels/byte_planes.hpp"

#include "tests/bench/bench.hpp"

namespace kvzip::bench {

void add_planes() {
  for (const unsigned width : {2u, 4u, 8u}) {
    const std::size_t bytes = kValues * width;
    const auto add_pass = [=](const char* name, auto pass) {
      add("planes/" + std::to_string(8 * width) + "_bits/" + name, [=](benchmark::State& state) {
        Bytes elements(bytes, std::byte{0x5a});
        std::vector<std::uint8_t> stored(bytes, 0xa5);
        std::vector<std::uint8_t*> planes;
        for (unsigned p = 0; p < width; ++p) planes.push_back(stored.data() + p * kValues);
        for (auto _ : state) {
          pass(elements.data(), planes.data());
          benchmark::DoNotOptimize(elements.data());
          benchmark::ClobberMemory();
        }
        report(state, static_cast<double>(bytes),
               memory_seconds(static_cast<double>(bytes), static_cast<double>(bytes)));
      });
    };
    add_pass("split", [=](const std::byte* elements, std::uint8_t* const* planes) {
      kernels::split_planes(elements, kValues, width, true, planes);
    });
    add_pass("join", [=](std::byte* elements, const std::uint8_t* const* planes) {
      kernels::join_planes(planes, kValues, width, true, elements);
    });
  }
}

}  // namespace kvzip::bench
