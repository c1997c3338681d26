// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <stdexcept>

#include "codec/kernels/instruction_set.hpp"
#include "tests/bench/bench.hpp"

namespace kvzip::bench {

void add(const std::string& name, const std::function<void(benchmark::State&)>& body) {
  for (const kernels::InstructionSet& target : kernels::instruction_sets()) {
    benchmark::RegisterBenchmark((name + "/" + std::string(target.name)).c_str(),
                                 [body, id = target.id](benchmark::State& state) {
                                   kernels::use_instruction_set(id);
                                   body(state);
                                   kernels::use_instruction_set(0);
                                 });
  }
}

void report(benchmark::State& state, double source_bytes, double least_seconds) {
  state.SetBytesProcessed(static_cast<std::int64_t>(source_bytes * static_cast<double>(state.iterations())));
  state.counters["limit"] = benchmark::Counter(least_seconds, benchmark::Counter::kIsIterationInvariantRate);
}

double memory_seconds(double read, double written) {
  const auto working_set = static_cast<std::size_t>(read + written);
  if (written == 0) return read / read_bytes_per_second(working_set);
  return (read + written) / copied_bytes_per_second(working_set);
}

std::vector<float> sample_values(std::size_t n, std::size_t cols) {
  std::vector<float> values(n);
  std::uint32_t state = 1;
  const auto uniform = [&state] {
    state = state * 1664525u + 1013904223u;
    return static_cast<float>(state >> 8) * 0x1p-24f;
  };
  for (std::size_t i = 0; i < n; ++i) {
    const float bell = uniform() + uniform() + uniform() + uniform() - 2;  // the sum of four is near enough
    values[i] = bell * (i % cols % 61 == 0 ? 10.0f : 1.0f);
  }
  return values;
}

const TileContext& sample_context() {
  static const TileContext context = [] {
    TileContext c;
    c.role = Role::key;
    c.layers = 1;
    c.heads = kHeads;
    c.head_dim = kHeadDim;
    c.total_tokens = kRows;
    c.source = DType::f16;
    return c;
  }();
  return context;
}

Tile sample_tile() {
  Tile tile(sample_context(), {kRows, kCols});
  const auto values = sample_values(kValues);
  tile.values.assign(values.begin(), values.end());
  return tile;
}

namespace {

template <typename Row>
const Row& row_of(std::span<const Row> table, std::string_view name) {
  for (const Row& row : table) {
    if (row.name == name) return row;
  }
  throw std::runtime_error("no component " + std::string(name));
}

}  // namespace

std::unique_ptr<Stage> make_stage(std::string_view name, std::vector<std::string_view> items) {
  auto stage = std::get<Factory<Stage>>(row_of(stage_table(), name).make)();
  parse_fields(*stage, name, items);
  stage->resolve(sample_context());
  return stage;
}

std::unique_ptr<Coder> make_coder(std::string_view name, std::vector<std::string_view> items) {
  auto coder = row_of(coder_table(), name).make();
  parse_fields(*coder, name, items);
  return coder;
}

std::vector<Stream> encode_stage(const Stage& stage, Tile& tile) {
  std::vector<Stream> streams;
  StreamWriter writer(streams);
  EncodeContext to{writer};
  stage.encode(tile, to);
  return streams;
}

void add_stage(const std::string& name, std::string_view stage_name, std::vector<std::string_view> items,
               const std::function<double()>& least_encode, const std::function<double()>& least_decode) {
  const std::shared_ptr<Stage> stage = make_stage(stage_name, std::move(items));
  add(name + "/encode", [stage, least_encode](benchmark::State& state) {
    const Tile source = sample_tile();
    Tile tile = source;
    for (auto _ : state) {
      benchmark::DoNotOptimize(encode_stage(*stage, tile));
      state.PauseTiming();
      tile = source;
      state.ResumeTiming();
    }
    report(state, kSourceBytes, least_encode());
  });
  if (!least_decode) return;
  add(name + "/decode", [stage, least_decode](benchmark::State& state) {
    Tile tile = sample_tile();
    const TileShape shape = tile.shape;
    const std::vector<Stream> streams = encode_stage(*stage, tile);
    const Tile left(sample_context(), stage->output(sample_context(), shape));
    StoredStreams stored(streams);
    for (auto _ : state) {
      state.PauseTiming();
      tile = left;
      stored.rewind();
      state.ResumeTiming();
      DecodeContext from{stored};
      stage->decode(tile, shape, from);
      benchmark::DoNotOptimize(tile.values.data());
    }
    report(state, kSourceBytes, least_decode());
  });
}

namespace {

/// Shows the share of the limit as such: a counter of this library would be "0.064/s".
class Reporter final : public benchmark::ConsoleReporter {
 public:
  Reporter() : ConsoleReporter(isatty(STDOUT_FILENO) == 1 ? OO_Color : OO_None) {}
  void ReportRuns(const std::vector<Run>& runs) override {
    std::vector<Run> shown = runs;
    for (Run& run : shown) {
      const auto limit = run.counters.find("limit");
      if (limit == run.counters.end()) continue;
      run.report_label = fmt::format("{:.3g} % of the limit", 100 * limit->second.value);
      run.counters.erase(limit);
    }
    ConsoleReporter::ReportRuns(shown);
  }
};

}  // namespace
}  // namespace kvzip::bench

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  using namespace kvzip::bench;
  fmt::print(
      "{}: memcpy reads and writes {:.0f} GB/s within 1 MB, {:.0f} within 64 MB; {:.0f} GFLOP/s; {:.0f} G 16-bit "
      "operations/s; {:.1f} G divisions/s; {:.2f} G lookups/s\n",
      kvzip::kernels::instruction_set_name(), copied_bytes_per_second(1 << 20) / 1e9,
      copied_bytes_per_second(64 << 20) / 1e9, flops_per_second() / 1e9, lane_operations_per_second() / 1e9,
      divisions_per_second() / 1e9, lookups_per_second() / 1e9);
  add_convert();
  add_rows();
  add_quantise();
  add_select();
  add_outliers();
  add_products();
  add_lowrank();
  add_planes();
  add_pack();
  add_rans();
  add_coders();
  Reporter reporter;
  benchmark::RunSpecifiedBenchmarks(&reporter);
  benchmark::Shutdown();
  return 0;
}
