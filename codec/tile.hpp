// SPDX-License-Identifier: Apache-2.0
// A tile: tokens x channels of one group, as float32, with what stages may know of it.
#pragma once

#include <cstdint>
#include <vector>

#include "codec/buffer.hpp"
#include "codec/kernels/rows.hpp"
#include "kvzip/dtype.hpp"
#include "kvzip/role.hpp"
#include "kvzip/rope.hpp"

namespace kvzip {

/// What is the same for every tile of a group.
struct TileContext {
  Role role = Role::other;  // key, value, or pair (keys left, values right)
  std::uint32_t layer = 0, layers = 0;
  std::uint32_t heads = 1;  // channels = heads x head_dim, head-major
  std::uint32_t head_dim = 1;
  std::uint64_t total_tokens = 0;  // of the whole sequence
  DType source = DType::f32;
  Rope rope;

  std::uint32_t channels() const { return heads * head_dim; }
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

  /// The values are unset.
  Tile(const TileContext& c, TileShape s) : context(&c), shape(s), values(std::size_t{s.rows} * s.cols) {}
  float* row(std::size_t r) { return values.data() + r * shape.cols; }
  const float* row(std::size_t r) const { return values.data() + r * shape.cols; }

  /// What an additive stage leaves: the tile minus its approximation, zero where values are stored exactly
  /// (GEAR, arXiv 2403.05527 section 3: the residual is X - D - S).
  void subtract_row(std::size_t r, const std::vector<float>& approximation) {
    kernels::subtract(approximation.data(), taken.empty() ? nullptr : taken.data() + r * shape.cols, shape.cols,
                      row(r));
  }
};

}  // namespace kvzip
