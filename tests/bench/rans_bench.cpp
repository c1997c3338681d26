// SPDX-License-Identifier: Apache-2.0
// The steps of the coder `rans` on 16 symbols, under each kind of model. The limit is arithmetic on 16-bit lanes, loads
// and stores being free: what codec/kernels/rans_step-inl.hpp needs at least for a symbol where one instruction does
// each operation. A boundary takes a compare, a selection of `from` and one of `to`; an adaptive bound four to learn
// (target, difference, shift, sum) and one to add its number; a fixed one a lookup, and averaging both takes the place
// of that addition. Decoding also selects the symbol. Without vectors, a search that ends at the symbol may need less.
#include <stdexcept>

#include "codec/coders/rans_choose.hpp"
#include "codec/kernels/rans_lanes.hpp"
#include "tests/bench/bench.hpp"
#include "tests/bench/symbols.hpp"

namespace kvzip::bench {
namespace {

using namespace kernels;

constexpr double kBoundaries = kRansSymbols - 1, kLearn = 4, kCompare = 1, kSelect = 1;
/// Decoding's slot, next state and carry, compare with 2^15, next word, 8-bit symbol.
constexpr double kDecodeRest = 20;
/// Halves of 32 bits, each its own vector: spread, to float, divide, scale, to integer, back: 16; quotient and rest
/// corrected, state below 2^15 x size, word out: 18. Its division may take longer than all of them.
constexpr double kEncode = 34;

struct Case {
  const char* name;
  bool adapts, tabled;
  double bound;  // operations to have a boundary and learn it

  RansModel model(const RansBounds& start, const RansTable& table) const {
    RansModel m;
    if (adapts) m.start = &start;
    if (tabled) m.table = &table;
    return m;
  }
};
constexpr Case kCases[] = {
    {"both", true, true, 2 + kLearn}, {"adaptive", true, false, 1 + kLearn}, {"static", false, true, 1}};

/// A stream, its model and its coded form, alike on every target.
class Coded {
 public:
  explicit Coded(const Case& which) : words_(groups_ * slots_ + 8), intervals_(2 * groups_ * slots_) {
    const auto steps = rans_pair_steps(shape_, stream_.data.data(), kRansSymbols);
    rans_table(steps, kRansSymbols, kRansSymbols, table_, start_);
    model_ = which.model(start_, table_);
    find_intervals();
    encode();
  }
  Coded(const Coded&) = delete;
  Coded& operator=(const Coded&) = delete;

  void find_intervals() {
    for (std::size_t g = 0; g < groups_; ++g) {
      rans_intervals(model_, shape_, g, stream_.data.data(), nullptr, starts(g), sizes(g));
    }
  }
  void encode() {
    std::fill_n(states_.low, kRansLanes, static_cast<std::uint16_t>(kRansTotal));
    std::fill_n(states_.high, kRansLanes, std::uint16_t{0});
    used_ = 0;
    for (std::size_t g = groups_; g-- > 0;) {
      used_ += rans_encode(starts(g), sizes(g), slots_, states_, words_.data() + groups_ * slots_ + 8 - used_);
    }
  }
  /// Words with room behind them; made once, outside the time that counts.
  std::vector<std::uint8_t> bytes() const {
    std::vector<std::uint8_t> out;
    for (const std::uint16_t word : std::span(words_).last(used_)) {
      out.push_back(static_cast<std::uint8_t>(word));
      out.push_back(static_cast<std::uint8_t>(word >> 8));
    }
    out.resize(out.size() + kRansRowBytes);
    return out;
  }
  void decode(std::span<const std::uint8_t> bytes, std::vector<std::uint8_t>& symbols) const {
    RansDecoder decoder;
    decoder.states = states_;
    decoder.at = bytes.data();
    decoder.end = bytes.data() + bytes.size();
    if (!rans_decode(model_, shape_, nullptr, decoder, symbols.data())) throw std::runtime_error("words are missing");
  }
  std::span<const std::uint8_t> symbols() const { return stream_.data; }
  double bits() const { return 16.0 * static_cast<double>(used_) / kValues; }

 private:
  std::uint16_t* starts(std::size_t group) { return intervals_.data() + 2 * group * slots_; }
  std::uint16_t* sizes(std::size_t group) { return starts(group) + slots_; }

  const Stream stream_ = sample_symbols(kRansSymbols);
  const RansShape shape_{kValues, kCols};
  const std::size_t groups_ = shape_.groups(), slots_ = shape_.group_slots();
  RansTable table_;
  RansBounds start_;
  RansModel model_;
  RansStates states_;
  std::vector<std::uint16_t> words_, intervals_;
  std::size_t used_ = 0;
};

void report_symbols(benchmark::State& state, double operations, double least_seconds = 0) {
  report(state, kSourceBytes, std::max(operations * kValues / lane_operations_per_second(), least_seconds));
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(kValues));
}

}  // namespace

void add_rans() {
  for (const Case& c : kCases) {
    const std::string name = std::string("rans/") + c.name;
    const auto coded = std::make_shared<Coded>(c);
    add(name + "/intervals", [=](benchmark::State& state) {
      for (auto _ : state) {
        coded->find_intervals();
        benchmark::ClobberMemory();
      }
      report_symbols(state, kBoundaries * (c.bound + kCompare + 2 * kSelect));
    });
    add(name + "/encode", [=](benchmark::State& state) {
      for (auto _ : state) {
        coded->encode();
        benchmark::ClobberMemory();
      }
      report_symbols(state, kEncode, kValues / divisions_per_second());
      state.counters["bits"] = coded->bits();
    });
    add(name + "/decode", [=](benchmark::State& state) {
      const std::vector<std::uint8_t> bytes = coded->bytes();
      std::vector<std::uint8_t> symbols(kValues);
      for (auto _ : state) {
        coded->decode(bytes, symbols);
        benchmark::DoNotOptimize(symbols.data());
        benchmark::ClobberMemory();
      }
      if (!std::equal(symbols.begin(), symbols.end(), coded->symbols().begin())) {
        state.SkipWithError("the round trip fails");
      }
      report_symbols(state, kBoundaries * (c.bound + kCompare + 3 * kSelect) + kDecodeRest);
    });
  }
}

}  // namespace kvzip::bench
