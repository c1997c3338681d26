// SPDX-License-Identifier: Apache-2.0
// One layer of a cache on its way through the tokens: errors of values, and of attention.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "formats/query_set.hpp"
#include "formats/token_positions.hpp"
#include "src/measure/fidelity.hpp"

namespace kvzip::tool {

/// Of a tensor that has none of the tokens that were decoded.
inline constexpr std::size_t kNoTwin = ~std::size_t{0};

struct FidelitySetup {
  DumpReader& original;
  FidelityOptions options;
  ModelInfo model;
  HeadMap heads;                           // keys and values
  std::vector<QuerySet> sets;              // none, one, or two
  std::map<std::uint32_t, Rotary> rotary;  // of layers whose keys are stored before rotation
  TokenPositions positions;
  std::set<TokenPositions::Layer> mixed;                 // layers whose rows are in no known order: nobody asks them
  std::map<TokenPositions::Layer, std::uint64_t> turns;  // rings: the row of their first position
  std::uint64_t tokens = 0, split = 0;                   // positions, the first of the cache counted as 0

  std::uint64_t first_position() const { return model.rope.first_position; }
  /// How many rows of a layer attention takes from what was decoded: layers that keep a window begin later.
  std::uint64_t split_row(const TokenPositions::Layer& layer) const {
    return split - std::min(split, positions.first_of(layer) - first_position());
  }
  /// Queries from here on see every token that attention takes from what was decoded.
  std::uint64_t split_position() const { return positions.behind(split); }
};

/// Energies and squared errors of rotary pairs, summed over tokens (the pairs of Block-GTQ, arXiv 2606.24033).
class PairSums {
 public:
  /// Without rotation every channel stands alone.
  PairSums(const Rope& rope, std::size_t dims);
  void add(const float* key, const float* decoded, std::size_t tokens);
  void finish(Proxy& proxy) const;

 private:
  std::vector<std::size_t> pair_;  // of each channel, by its first channel
  std::vector<double> energy_, error_;
};

class LayerRun {
 public:
  /// twins[i]: the place of the original's tensor i in `decoded`, or kNoTwin.
  LayerRun(FidelitySetup& setup, DumpReader& decoded, const std::vector<std::size_t>& twins, const Progress& progress,
           std::uint64_t done, std::uint64_t total)
      : s_(setup), decoded_(decoded), twins_(twins), progress_(progress), done_(done), total_(total) {}

  std::vector<HeadFidelity> run(std::pair<std::uint32_t, std::uint64_t> layer, const LayerHeads& place);
  std::array<std::uint64_t, 2> queries() const { return queries_; }  // of a head
  std::uint64_t done() const { return done_; }                       // bytes
  std::uint64_t left_out() const { return left_out_; }               // pairs of a query and a token

 private:
  /// A query head, or keys in the place of one, on its way.
  struct Asking {
    std::size_t head, who;  // who: 0 and 1 = the query sets, 2 = keys
    AttentionMeter meter;
  };
  struct Block;

  void ask(const LayerHeads& place);
  AttentionMeter::Shape shape_of(const HeadRows& keys, const HeadRows& values) const;
  void ask_keys(const HeadRows& keys, const HeadRows& values);
  void stream(const HeadRows* keys, const HeadRows* values, std::size_t first_head);
  std::uint64_t decoded_of(const HeadRows& rows, std::uint64_t first, std::uint64_t count) const;
  void read(const HeadRows& rows, bool take_decoded, std::uint64_t first, std::uint64_t count,
            std::vector<float>& original, std::vector<float>& decoded);
  void measure_head(Block& block, std::size_t head, HeadFidelity& out, PairSums* pairs) const;
  void collect();

  FidelitySetup& s_;
  DumpReader& decoded_;
  const std::vector<std::size_t>& twins_;
  const Progress& progress_;
  std::uint64_t done_, total_, left_out_ = 0;
  std::array<std::uint64_t, 2> queries_{};
  TokenPositions::Layer layer_{};
  LayerAttention attention_;
  const Rotary* rotary_ = nullptr;
  std::uint64_t turn_ = 0;
  std::vector<Asking> asking_;
  std::vector<PairSums> pairs_;
  std::vector<HeadFidelity> heads_;
};

}  // namespace kvzip::tool
