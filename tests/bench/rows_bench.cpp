// SPDX-License-Identifier: Apache-2.0
// Passes over rows of floats: checks, extremes, differences. The limit is memory.
#include "codec/kernels/rows.hpp"

#include "tests/bench/bench.hpp"

namespace kvzip::bench {

void add_rows() {
  const auto add_reader = [](const std::string& name, auto pass) {
    add("rows/" + name, [pass](benchmark::State& state) {
      const std::vector<float> x = sample_values(kValues);
      std::vector<float> low(kCols), high(kCols);
      for (auto _ : state) {
        benchmark::DoNotOptimize(pass(x.data(), low.data(), high.data()));
        benchmark::ClobberMemory();
      }
      report(state, 4.0 * kValues, memory_seconds(4.0 * kValues, 0));
    });
  };
  add_reader("all_finite", [](const float* x, float*, float*) { return kernels::all_finite(x, kValues); });
  add_reader("min_max", [](const float* x, float* low, float* high) {
    kernels::min_max(x, kValues, low, high);
    return *low;
  });
  add_reader("min_max_columns", [](const float* x, float* low, float* high) {
    for (std::size_t r = 0; r < kRows; ++r) kernels::min_max_columns(x + r * kCols, kCols, low, high);
    return *low;
  });
  for (const std::uint32_t length : {32u, 64u, kHeadDim}) {
    std::vector<std::uint32_t> edges;
    for (std::uint32_t at = 0; at <= kCols; at += length) edges.push_back(at);
    add_reader("min_max_segments/" + std::to_string(length), [edges](const float* x, float* low, float* high) {
      for (std::size_t r = 0; r < kRows; ++r) {
        kernels::min_max_segments(x + r * kCols, edges.data(), edges.size() - 1, low, high);
      }
      return *low;
    });
  }
  add("rows/subtract", [](benchmark::State& state) {
    const std::vector<float> approximation = sample_values(kValues, kValues);
    std::vector<float> x = sample_values(kValues);
    for (auto _ : state) {
      kernels::subtract(approximation.data(), nullptr, kValues, x.data());
      benchmark::DoNotOptimize(x.data());
      benchmark::ClobberMemory();
    }
    // In place, so two reads and a write: as many as memcpy of the values needs, which also fetches what it overwrites.
    report(state, 4.0 * kValues, memory_seconds(4.0 * kValues, 4.0 * kValues));
  });
}

}  // namespace kvzip::bench
