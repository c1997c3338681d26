// SPDX-License-Identifier: Apache-2.0
// Streams of symbols as quantisers make them, through a coder and back.
#pragma once

#include <algorithm>
#include <cmath>

#include "kvzip/error.hpp"
#include "tests/bench/bench.hpp"

namespace kvzip::bench {

/// Bell-shaped around the middle of the alphabet.
inline Stream sample_symbols(std::uint32_t alphabet) {
  Stream stream;
  stream.type = StreamType::symbols;
  stream.alphabet = alphabet;
  stream.rows = kRows;
  stream.cols = kCols;
  stream.head_dim = kHeadDim;
  const std::vector<float> values = sample_values(kValues, kValues + 1);
  const float top = static_cast<float>(alphabet - 1);
  for (const float v : values) {
    stream.data.push_back(static_cast<std::uint8_t>(std::clamp(std::nearbyint((v / 4 + 0.5f) * top), 0.0f, top)));
  }
  return stream;
}

inline void add_coder(const std::string& name, const std::shared_ptr<Coder>& coder, std::uint32_t alphabet,
                      const std::function<double()>& least) {
  const auto stream = std::make_shared<Stream>(sample_symbols(alphabet));
  add(name + "/encode", [=](benchmark::State& state) {
    Bytes table, body;
    for (auto _ : state) {
      table.clear();
      body.clear();
      coder->encode(*stream, table, body);
      benchmark::DoNotOptimize(body.data());
    }
    report(state, kSourceBytes, least());
    state.counters["bits"] = 8.0 * static_cast<double>(table.size() + body.size()) / kValues;
  });
  add(name + "/decode", [=](benchmark::State& state) {
    Bytes table, body;
    coder->encode(*stream, table, body);
    Stream decoded = *stream;
    for (auto _ : state) {
      decoded.data.clear();
      coder->decode(decoded, table, body);
      benchmark::DoNotOptimize(decoded.data.data());
    }
    if (decoded.data != stream->data) state.SkipWithError("the round trip fails");
    report(state, kSourceBytes, least());
  });
}

}  // namespace kvzip::bench
