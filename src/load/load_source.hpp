// SPDX-License-Identifier: Apache-2.0
// The qualities at which a cache is at hand: containers of it, or the settings of a sweep. And a link's bandwidth.
#pragma once

#include "src/load/load_schedule.hpp"

namespace kvzip::tool {

struct LoadSource {
  std::string measure;  // label; empty for containers, which do not know their errors
  std::uint64_t tokens = 0, source_bytes = 0, values = 0;
  std::vector<LoadChunk> chunks;
  std::vector<LoadLevel> levels;     // best first
  std::vector<std::string> skipped;  // settings that cannot be cut into these chunks
};

/// Containers of the same keys and values; more bytes are taken to be better.
LoadSource read_containers(const std::vector<std::string>& paths, std::uint64_t chunk_tokens);
/// True for the text of a sweep rather than a container.
bool is_sweep_text(const std::string& path);
/// Settings of one dump of a sweep (by its path; empty where there is only one): those named, or the Pareto-optimal.
struct SweepChoice {
  std::string dump, measure;
  std::vector<std::string> settings;
};
LoadSource read_sweep_levels(const std::string& path, const SweepChoice& choice, std::uint64_t chunk_tokens);
LoadSource sweep_levels(const Sweep& sweep, const SweepChoice& choice, std::uint64_t chunk_tokens);
BandwidthTrace read_trace(const std::string& path);

}  // namespace kvzip::tool
