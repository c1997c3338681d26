// SPDX-License-Identifier: Apache-2.0
// A tile: tokens x channels of one group, as float32, with what stages may know of it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "codec/buffer.hpp"
#include "codec/kernels/rows.hpp"
#include "kvzip/dtype.hpp"
#include "kvzip/role.hpp"
#include "kvzip/rope.hpp"

namespace kvzip {

/// Heads of one width side by side: channels `first` to `first` + heads x head_dim, head-major.
struct HeadRun {
  std::uint32_t first = 0, heads = 1, head_dim = 1;
  std::uint32_t end() const { return first + heads * head_dim; }
};

/// One tensor's share of a tile: the keys, or the values, of one layer.
struct TileMember : HeadRun {
  Role role = Role::other;
  std::uint32_t layer = 0;
};

/// What is the same for every tile of a group.
struct TileContext {
  Role role = Role::other;                // key, value, or pair (keys left, values right)
  std::uint32_t layer = 0, layers = 0;    // the first layer in the tile; layers of the model
  std::uint32_t heads = 1, head_dim = 1;  // of all members, side by side; both 0 where members' heads differ in width
  std::vector<TileMember> members;        // left to right; they cover the channels. Empty: one member, as above
  std::uint64_t total_tokens = 0;         // of the whole sequence
  // Encoder: those before the padding at its end, rows of zeros.
  std::uint64_t used_tokens = ~std::uint64_t{0};
  DType source = DType::f32;
  Rope rope;

  std::uint32_t channels() const { return heads != 0 ? heads * head_dim : members.empty() ? 0 : members.back().end(); }
  /// What stages go over that work head by head: runs of heads of one width, from left to right, as long as they come;
  /// of keys only where `keys_only`.
  std::vector<HeadRun> head_runs(bool keys_only = false) const;
  /// Where each head begins, and where the last one ends.
  std::vector<std::uint32_t> head_edges() const;
};

/// What a stage can compute of its input without data. A stage's output shape is the next one's input shape.
struct TileShape {
  std::uint32_t rows = 0, cols = 0;
  std::uint64_t first_token = 0;
  bool pristine = true;    // values are still the source's own, so source-dtype storage is exact
  bool contiguous = true;  // row r is token first_token + r
};

struct Tile {
  const TileContext* context = nullptr;
  TileShape shape;
  Buffer<float> values;        // rows x cols
  Buffer<std::uint8_t> taken;  // encoder: 1 where an earlier stage stores the value exactly; empty = nowhere
  // Encoder: log2 of how much a squared error matters, relative to the mean of the dump's keys and values: of each row
  // one number, or one for each of its heads. Empty = unknown.
  std::vector<float> saliency;

  /// The values are unset.
  Tile(const TileContext& c, TileShape s) : context(&c), shape(s), values(std::size_t{s.rows} * s.cols) {}
  float* row(std::size_t r) { return values.data() + r * shape.cols; }
  const float* row(std::size_t r) const { return values.data() + r * shape.cols; }

  std::size_t saliency_cols() const {
    return shape.rows == 0 || saliency.size() % shape.rows != 0 ? 0 : saliency.size() / shape.rows;
  }
  /// One number a row: log2 of the mean over its heads of 2^s. Empty = unknown.
  std::vector<float> row_saliency() const;

  /// What an additive stage leaves: the tile minus its approximation, zero where values are stored exactly
  /// (GEAR, arXiv 2403.05527 section 3: the residual is X - D - S).
  void subtract_row(std::size_t r, const std::vector<float>& approximation) {
    kernels::subtract(approximation.data(), taken.empty() ? nullptr : taken.data() + r * shape.cols, shape.cols,
                      row(r));
  }
};

/// log2 of the mean of 2^s.
float mean_saliency(std::span<const float> heads);

}  // namespace kvzip
