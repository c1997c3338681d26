// SPDX-License-Identifier: Apache-2.0
// A cache and the queries that ask it, layer by layer: what attention over it is worked out from.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "formats/query_set.hpp"
#include "formats/token_positions.hpp"

namespace kvzip::tool {

struct AskingOptions {
  std::string queries;                 // a file; empty: the dump's own
  std::uint32_t queries_per_head = 0;  // evenly spaced; 0 = all
  RecogniseOptions recognise{};        // of the file
};

/// Queries of one layer and batch entry, turned as its keys are to be: heads x positions.size() x channels.
struct Asked {
  std::vector<float> queries;
  std::vector<std::uint64_t> positions;
  std::size_t heads = 0;  // a multiple of the keys'

  std::span<const float> head(std::size_t j, std::size_t dims) const {
    return std::span(queries).subspan(j * positions.size() * dims, positions.size() * dims);
  }
};

/// What turns keys of the layers that store them before rotation, by layer number, for positions below `end`, too.
std::map<std::uint32_t, Rotary> rotaries_of_keys(const ModelInfo& model, const HeadMap& heads,
                                                 const TokenPositions& positions, std::uint64_t end);

class Asking {
 public:
  using Layer = std::pair<std::uint32_t, std::uint64_t>;  // layer, batch entry

  /// `cache` must outlive it. fail(invalid_argument) unless every layer has keys and values that belong together, and
  /// queries that fit them.
  Asking(DumpReader& cache, const Recognition& recognition, const AskingOptions& options);

  const HeadMap& layers() const { return heads_; }
  /// Of a layer's tokens; later than that of others where it holds the last of them only.
  std::uint64_t first_position(const Layer& layer) const { return positions_.first_of(layer); }
  /// Tokens that a query of this layer sees, its own among them; 0 = all up to its own.
  std::uint64_t window(const Layer& layer) const { return model_.attention(layer.first).window; }
  /// Where the queries are from, and what had to be assumed of them.
  const std::string& from() const { return queries_->from(); }
  const std::string& note() const { return queries_->note(); }
  /// How many queries of a head ask this layer.
  std::uint64_t count(const Layer& layer) const { return chosen(layer).size(); }
  std::uint64_t query_heads(const Layer& layer) const { return queries_->of(layer)->heads; }

  /// Of a head's tokens.
  std::vector<std::uint64_t> positions(const Layer& layer, std::uint64_t head, std::uint64_t first,
                                       std::uint64_t count) const {
    return positions_.of(layer, head, first, count);
  }
  Asked read(const Layer& layer);
  /// Tokens of a layer with their keys turned, in pieces that are read at once: heads x count x channels each.
  struct Piece {
    std::uint64_t first = 0, count = 0;
    std::vector<float> keys, values;
  };
  void for_each_piece(const Layer& layer, bool values, const std::function<void(Piece&)>& use);
  /// The same of chunks by themselves, those that `wants` says: some of the tokens from `first` on are needed.
  using Wants = std::function<bool(std::uint64_t first, std::uint64_t count)>;
  void for_each_chunk(const Layer& layer, bool values, const Wants& wants, const std::function<void(Piece&)>& use);

 private:
  void check(const Layer& layer, const LayerHeads& place) const;
  void read_piece(const Layer& layer, bool values, Piece& piece);
  std::vector<std::uint64_t> chosen(const Layer& layer) const;
  const Rotary* rotary(const Layer& layer) const;

  DumpReader& cache_;
  ModelInfo model_;
  std::uint32_t queries_per_head_;
  HeadMap heads_;
  std::optional<QuerySet> queries_;
  std::map<std::uint32_t, Rotary> rotaries_;  // of layers whose keys are stored before rotation
  TokenPositions positions_;
};

}  // namespace kvzip::tool
