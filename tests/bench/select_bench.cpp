// SPDX-License-Identifier: Apache-2.0
// What the choice of outliers is made of. The limit is reading the values once. Two values of each channel are wanted
// at either end: of a sample of 64 rows, the bounds are then the fourth values, and to find these takes a minimum and a
// maximum for each value and place in two lists of four.
#include <algorithm>

#include "codec/kernels/select.hpp"
#include "tests/bench/bench.hpp"

namespace kvzip::bench {
namespace {

constexpr std::size_t kSample = 64, kWhich = 4;

void column_extremes(const float* x, float* low, float* high) {
  float kept[2 * kWhich * kernels::kMostLanes];
  kernels::column_extremes(x, kSample, kCols, kWhich, kept, low, high);
}

}  // namespace

void add_select() {
  add("select/column_extremes", [](benchmark::State& state) {
    const std::vector<float> x = sample_values(kSample * kCols);
    std::vector<float> low(kCols), high(kCols);
    for (auto _ : state) {
      column_extremes(x.data(), low.data(), high.data());
      benchmark::DoNotOptimize(low.data());
      benchmark::ClobberMemory();
    }
    constexpr double kSampled = kSample * kCols;
    report(state, 4 * kSampled, std::max(memory_seconds(4 * kSampled, 0), 4 * kWhich * kSampled / flops_per_second()));
  });
  add("select/places_beyond", [](benchmark::State& state) {
    const std::vector<float> x = sample_values(kValues);
    std::vector<float> low(kCols), high(kCols);
    std::vector<std::uint32_t> at(kCols);
    column_extremes(x.data(), low.data(), high.data());
    std::size_t found = 0;
    for (auto _ : state) {
      found = 0;
      for (std::size_t r = 0; r < kRows; ++r) {
        found += kernels::places_beyond(x.data() + r * kCols, kCols, low.data(), high.data(), at.data());
      }
      benchmark::DoNotOptimize(found);
    }
    report(state, 4.0 * kValues, memory_seconds(4.0 * kValues, 0));
    state.counters["percent"] = 100.0 * static_cast<double>(found) / kValues;
  });
  add("select/add_to_columns", [](benchmark::State& state) {
    const std::vector<float> x = sample_values(kValues);
    std::vector<double> sums(kCols);
    for (auto _ : state) {
      for (std::size_t r = 0; r < kRows; ++r) kernels::add_to_columns(x.data() + r * kCols, kCols, sums.data());
      benchmark::DoNotOptimize(sums.data());
      benchmark::ClobberMemory();
    }
    report(state, 4.0 * kValues, memory_seconds(4.0 * kValues, 0));
  });
  add("select/sum", [](benchmark::State& state) {
    const std::vector<float> x = sample_values(kValues);
    for (auto _ : state) benchmark::DoNotOptimize(kernels::sum(x.data(), kValues));
    report(state, 4.0 * kValues, memory_seconds(4.0 * kValues, 0));
  });
}

}  // namespace kvzip::bench
