// SPDX-License-Identifier: Apache-2.0
// What `kvzip sweep` measures: one row for each setting on each dump.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "src/measure/fidelity.hpp"
#include "src/report/report.hpp"

namespace kvzip::tool {

/// A container's bytes by what they hold; together they are the whole file.
enum class ByteKind : std::uint8_t { codes, scales, factors, outliers, exact, tables, headers };
inline constexpr std::array<std::string_view, 7> kByteKinds{"codes", "scales", "factors", "outliers",
                                                            "exact", "tables", "headers"};

/// Bytes of the frames that begin with token `first`, over all layers and roles.
struct ChunkBytes {
  std::uint64_t first = 0, tokens = 0, bytes = 0;
};

/// A measure as tables, plots and Pareto fronts need it. Lower is better.
struct Measure {
  std::string_view id;     // what --measure takes
  std::string_view label;  // for axes and headings
  std::optional<double> (*of)(const FidelitySummary&);
};
/// attention (output nrmse), kl, logits, attention2, kl2, proxy, pair, nrmse (root mean square of the two), k-nrmse,
/// v-nrmse: the first one that a sweep's rows have is its default.
std::span<const Measure> measures();
/// fail(invalid_argument) lists the names; an empty name is the default for these dumps.
const Measure& find_measure(std::string_view id, const struct Sweep& sweep);

struct LayerResult {
  std::uint32_t layer = 0;
  std::uint64_t key_values = 0, value_values = 0;  // how many
  std::uint64_t key_bytes = 0, value_bytes = 0;    // frame records; of frames of both, by their values
  FidelitySummary all;
  std::vector<FidelitySummary> heads;
};

/// One setting on one dump.
struct SettingResult {
  std::string name, family, kind;  // kind: "preset", "file", "pipeline", "grid"
  std::string rules;               // as a preset file
  std::string command;             // the compress command that writes this file
  std::string left_out;            // what the original of a baseline does not count, or nothing
  std::uint64_t file_bytes = 0;    // the container of keys and values
  std::array<std::uint64_t, kByteKinds.size()> bytes{};
  double encode_mbs = 0, decode_mbs = 0;  // source MB/s of one thread
  std::optional<std::uint64_t> peak_bytes;
  FidelitySummary all;
  std::vector<LayerResult> layers;
  std::optional<std::uint32_t> worst_layer;
  std::vector<ChunkBytes> chunks;
};

struct SweepDump {
  std::string path, model;
  std::uint64_t source_bytes = 0, values = 0;  // of keys and values
  std::uint64_t int8_bytes = 0;                // the container of preset int8 on it
  std::uint64_t tokens = 0, split = 0, queries = 0, queries2 = 0;
  std::string dtype, queries_from, note;
  std::vector<SettingResult> settings;
};

struct Sweep {
  std::string version, machine, command;  // the sweep's own command line
  std::vector<SweepDump> dumps;
};

/// Settings that no other one beats: none has at most as many bytes and at most the error, and less of one of them.
/// Settings without the measure are never in it.
std::vector<bool> pareto_front(const SweepDump& dump, const Measure& measure);

Json sweep_json(const Sweep& sweep);
/// Reads what sweep_json() wrote; fail(corrupt) on anything else.
Sweep read_sweep(std::string_view text);

}  // namespace kvzip::tool
