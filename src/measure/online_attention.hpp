// SPDX-License-Identifier: Apache-2.0
// Attention outputs of one head's queries over tokens that come in pieces.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "codec/buffer.hpp"

namespace kvzip::tool {

/// How many of the tokens at these positions, which ascend, a query at this position sees without a window,
std::size_t tokens_up_to(std::span<const std::uint64_t> tokens, std::uint64_t position);
/// and how many of them are so far behind that a window of so many positions is past them; 0 = no window.
std::size_t tokens_past(std::span<const std::uint64_t> tokens, std::uint64_t position, std::uint64_t window);

/// Queries of one head in tiles of kernels::kQueryTile, times the scale: tile, channel, query. Lanes without a query,
/// and queries that are not finite or beyond 1e30, are zeros.
class QueryTiles {
 public:
  /// scale 0: 1 / sqrt(dims).
  QueryTiles(std::span<const float> queries, std::size_t dims, double scale);
  std::size_t tiles() const { return asks_.size() / lanes(); }
  const float* tile(std::size_t i) const { return packed_.data() + i * lanes() * dims_; }
  bool asks(std::size_t query) const { return asks_[query]; }
  static std::size_t lanes();

 private:
  std::size_t dims_;
  Buffer<float> packed_;
  std::vector<bool> asks_;
};

/// o = sum a v with a = softmax(scale q.k) over the tokens up to the query's own position. A token with a value that is
/// not finite or beyond 1e30, and a pair whose logit is not finite or beyond 1e15, are left out. A query that is not
/// usable has an output of NaN, one that sees no token an output of 0. Memory follows the queries, not the tokens. The
/// last digits depend on the calls' sizes, unless these are multiples of 128 tokens.
class OnlineAttention {
 public:
  struct Shape {
    std::size_t dims = 1, value_dims = 1;
    double scale = 0;          // 0 = 1 / sqrt(dims)
    std::uint64_t window = 0;  // positions that a query sees, its own among them; 0 = all up to its own
  };
  /// queries: positions.size() x dims; positions ascend.
  OnlineAttention(const Shape& shape, std::span<const float> queries, std::span<const std::uint64_t> positions);

  /// Tokens at these positions, which ascend and are above those of the last call: tokens x dims keys, tokens x
  /// value_dims values.
  /// A query takes of token t of this call only where `takes` says so; what it does not take is not left out.
  using Takes = std::function<bool(std::size_t query, std::size_t token)>;
  void add(std::span<const std::uint64_t> positions, std::span<const float> keys, std::span<const float> values,
           const Takes& takes = {});
  /// positions.size() x value_dims, after the last token.
  void outputs(std::span<float> out) const;
  /// Pairs of a query and a token it sees that were left out.
  std::uint64_t left_out() const { return left_out_; }

 private:
  struct Query {
    bool any = false;  // it has seen a token
    float m = 0;       // largest logit
    double z = 0;      // sum of exp(s - m)
  };
  void add_block(std::span<const std::uint64_t> positions, const float* keys, const float* values, const Takes& takes);
  double weigh(Query& query, float* logits, std::size_t sees, std::size_t width);

  Shape shape_;
  std::vector<std::uint64_t> positions_;
  QueryTiles queries_;
  std::vector<Query> state_;
  std::vector<double> out_;
  Buffer<float> keys_, values_, panels_, added_;  // of one block
  std::uint64_t left_out_ = 0;
};

}  // namespace kvzip::tool
