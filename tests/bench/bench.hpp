// SPDX-License-Identifier: Apache-2.0
// What the benchmarks share: data, stages without a coder, and figures next to their limit. Every benchmark runs on
// every instruction set. Sizes are those of a tile of 256 tokens of 8 heads of 128.
#pragma once

#include <benchmark/benchmark.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "codec/stage.hpp"
#include "tests/bench/limits.hpp"

namespace kvzip::bench {

inline constexpr std::uint32_t kRows = 256, kHeads = 8, kHeadDim = 128, kCols = kHeads * kHeadDim;
inline constexpr std::size_t kValues = std::size_t{kRows} * kCols;
inline constexpr double kSourceBytes = 2.0 * kValues;  // as f16

/// One file each.
void add_coders();
void add_convert();
void add_lowrank();
void add_outliers();
void add_pack();
void add_planes();
void add_products();
void add_quantise();
void add_rans();
void add_rows();
void add_select();

/// Registers NAME/TARGET for each instruction set.
void add(const std::string& name, const std::function<void(benchmark::State&)>& body);
/// After the loop: source bytes a second, and `limit`, the share of the speed that the machine's limit allows.
void report(benchmark::State& state, double source_bytes, double least_seconds);
/// Seconds to move bytes through the working set of all of them; reading alone is cheaper.
double memory_seconds(double read, double written);

/// Bell-shaped values; some channels ten times as large. Always the same.
std::vector<float> sample_values(std::size_t n, std::size_t cols = kCols);
const TileContext& sample_context();
Tile sample_tile();

/// A component of a table by its name and "name=value" items.
std::unique_ptr<Stage> make_stage(std::string_view name, std::vector<std::string_view> items);
std::unique_ptr<Coder> make_coder(std::string_view name, std::vector<std::string_view> items = {});

/// A stage's streams, and the same given back.
std::vector<Stream> encode_stage(const Stage& stage, Tile& tile);
class StoredStreams final : public StreamReader {
 public:
  explicit StoredStreams(const std::vector<Stream>& streams) : streams_(streams) {}
  void rewind() { next_ = 0; }
  void get(Stream& stream) override {
    const Stream& stored = streams_.at(next_++);
    stream.data = stored.data;
    stream.positions = stored.positions;
  }

 private:
  const std::vector<Stream>& streams_;
  std::size_t next_ = 0;
};

/// Registers a stage's encode and decode, whose least possible times are given.
void add_stage(const std::string& name, std::string_view stage, std::vector<std::string_view> items,
               const std::function<double()>& least_encode, const std::function<double()>& least_decode);

}  // namespace kvzip::bench
