// SPDX-License-Identifier: Apache-2.0
// Elements to floats and back; the limit is memory.
#include "kvzip/dtype.hpp"
#include "tests/bench/bench.hpp"

namespace kvzip::bench {

void add_convert() {
  for (const DType dtype : {DType::f16, DType::bf16, DType::f32, DType::f8_e4m3, DType::f8_e5m2}) {
    const std::string name = "convert/" + std::string(dtype_name(dtype));
    const std::size_t bytes = kValues * dtype_unit(dtype);
    add(name + "/to_float", [dtype, bytes](benchmark::State& state) {
      std::vector<float> values = sample_values(kValues);
      Bytes elements(bytes);
      from_float(dtype, values, elements);
      for (auto _ : state) {
        to_float(dtype, elements, values);
        benchmark::DoNotOptimize(values.data());
        benchmark::ClobberMemory();
      }
      report(state, static_cast<double>(bytes), memory_seconds(static_cast<double>(bytes), 4.0 * kValues));
    });
    add(name + "/from_float", [dtype, bytes](benchmark::State& state) {
      const std::vector<float> values = sample_values(kValues);
      Bytes elements(bytes);
      for (auto _ : state) {
        from_float(dtype, values, elements);
        benchmark::DoNotOptimize(elements.data());
        benchmark::ClobberMemory();
      }
      report(state, static_cast<double>(bytes), memory_seconds(4.0 * kValues, static_cast<double>(bytes)));
    });
  }
}

}  // namespace kvzip::bench
