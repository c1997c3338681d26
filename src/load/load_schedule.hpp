// SPDX-License-Identifier: Apache-2.0
// Loading a cache over a network by a deadline: CacheGen's streaming controller (arXiv 2310.07240, section 5.3) and the
// rule of its released code, simulated over a trace of bandwidth.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "src/sweep/sweep.hpp"

namespace kvzip::tool {

/// Bandwidth over time: steps of constant rate, the last without end.
class BandwidthTrace {
 public:
  /// Lines "SECONDS MBIT_PER_S" (1e6 bits), '#' begins a comment; fail(invalid_argument) names the line that cannot be.
  static BandwidthTrace parse(std::string_view text);
  /// When `bytes` have arrived whose transfer begins at `start`.
  double arrival(std::uint64_t bytes, double start) const;

 private:
  struct Step {
    double from = 0, bits_per_second = 0;
  };
  std::vector<Step> steps_;
};

/// One quality at which all chunks are at hand.
struct LoadLevel {
  std::string name;
  double error = 0;                  // of the measure; less is better
  std::vector<std::uint64_t> bytes;  // of each chunk
};
struct LoadChunk {
  std::uint64_t first = 0, tokens = 0;
};
struct LoadProblem {
  std::vector<LoadChunk> chunks;
  std::vector<LoadLevel> levels;  // best first
  double slo = 0;                 // seconds
  double recompute = 0;           // seconds a token
  std::optional<double> initial;  // bits a second, known before anything was sent
  double decode = 0;              // seconds a token; 0: does not count
};

enum class LoadPolicy : std::uint8_t { paper, equal_split };
std::string_view policy_name(LoadPolicy policy);

struct LoadStep {
  std::optional<std::size_t> level;  // none: recomputed from text
  std::uint64_t bytes = 0;
  double start = 0, end = 0;         // of the transfer, or of the recomputation
  double ready = 0;                  // decoded
  std::optional<double> throughput;  // bits a second, measured
  std::optional<double> estimate;    // what the choice was made with
};
struct LoadSchedule {
  LoadPolicy policy = LoadPolicy::paper;
  std::vector<LoadStep> steps;
  double last_byte = 0, ready = 0;
  bool met = false;  // ready is not later than the SLO
  std::uint64_t bytes = 0;
  double error = 0;  // mean over tokens; what is recomputed has none
};
LoadSchedule plan_load(const LoadProblem& problem, const BandwidthTrace& trace, LoadPolicy policy);

/// How many chunks of `tokens`, at least 1, all tokens make; fail(limit) for more than 2^20: a sweep's text may claim
/// any number of tokens.
std::uint64_t chunk_count(std::uint64_t all_tokens, std::uint64_t tokens);
/// Sums frames into chunks of `tokens`, at least 1. Nothing when a frame reaches over the end of a chunk (a loader
/// cannot change the quality there) or a chunk has no bytes.
std::optional<std::vector<std::uint64_t>> chunk_bytes(const std::vector<ChunkBytes>& frames, std::uint64_t all_tokens,
                                                      std::uint64_t tokens);

}  // namespace kvzip::tool
