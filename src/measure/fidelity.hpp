// SPDX-License-Identifier: Apache-2.0
// A decoded cache against the original, layer by layer and head by head: errors of values, and of attention where there
// are queries. Holds one layer's queries and one block of tokens at a time.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kvzip/io.hpp"
#include "kvzip/metrics.hpp"
#include "src/measure/attention_meter.hpp"

namespace kvzip::tool {

struct FidelityOptions {
  std::string queries, queries2;         // files; empty: the dump's own queries, and no second set
  std::optional<std::uint64_t> split;    // tokens of the cache that are decoded; later ones stay the original's
  std::uint32_t queries_per_head = 256;  // evenly spaced among those from the split on; 0 = all
  std::uint32_t top_k = 16;
  double scale = 0;  // 0 = 1 / sqrt(head_dim)
  bool proxies = true;
  bool decoded_keys = true, decoded_values = true;  // false: that role stays the original's
  RecogniseOptions recognise;                       // of the query files
  unsigned threads = 0;
};

/// Stand-ins for attention where there are no queries. Never mixed with the real thing.
struct Proxy {
  AttentionError keys_as_queries;          // each token's key asks in place of its query
  double pair_error = 0, pair_energy = 0;  // squared errors of rotary pairs weighted by the pair's energy, and energies
  double pair_nrmse() const;
};

/// One key-value head.
struct HeadFidelity {
  Distortion key, value;
  std::optional<AttentionError> attention, attention2;  // over the head's group of query heads
  std::optional<Proxy> proxy;
};

/// Errors of values, as figures.
struct ValueFigures {
  std::uint64_t values = 0, nonfinite_mismatches = 0;
  double max_abs = 0, nrmse = 0, snr_db = 0, cosine_min = 1, cosine_mean = 1;
  static ValueFigures of(const Distortion& distortion);
};
/// Means over heads, each with the same weight; of the two nrmse the root of the mean square.
struct AttentionFigures {
  double logits_nrmse = 0, kl = 0, top_overlap = 0, output_nrmse = 0, output_cosine = 0;
};
/// A head, a layer or all: errors of values pooled, attention by heads.
struct FidelitySummary {
  std::optional<ValueFigures> key, value;
  std::optional<AttentionFigures> attention, attention2;
  std::optional<AttentionFigures> proxy;  // keys as queries
  std::optional<double> pair_nrmse;       // proxy: root mean square over heads
};
FidelitySummary summarise(std::span<const HeadFidelity> heads);

struct LayerFidelity {
  std::uint32_t layer = 0;
  std::uint64_t batch = 0;
  std::vector<HeadFidelity> heads;
  FidelitySummary all;
};
struct Fidelity {
  std::uint64_t tokens = 0, split = 0;
  std::uint64_t queries = 0, queries2 = 0;  // a head, in use
  std::string queries_from, note;           // where queries are from; what had to be assumed, a sentence or nothing
  std::vector<LayerFidelity> layers;
  FidelitySummary all;
  /// The layer with the largest output error of attention, else of its proxy, else of values; no value without layers.
  const LayerFidelity* worst() const;
};

/// What does not change from one decoded file to the next: where keys, values and queries are, and what the queries
/// are.
class FidelityMeter {
 public:
  /// `original` must outlive it. Opens the query files. fail(invalid_argument) when queries were asked for that do not
  /// fit the cache.
  FidelityMeter(DumpReader& original, const Recognition& recognition, const FidelityOptions& options);
  ~FidelityMeter();
  /// Tokens of the cache, and those of them that attention takes from what was decoded.
  std::uint64_t tokens() const;
  std::uint64_t split() const;
  bool has_queries() const;
  /// `decoded` has tensors of the same names, shapes and roles; its order may differ, it may have fewer that are
  /// neither keys nor values, and fewer tokens as long as they reach the split. fail(invalid_argument) otherwise.
  Fidelity measure(DumpReader& decoded, const Progress& progress = {});

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace kvzip::tool
