// SPDX-License-Identifier: Apache-2.0
// Rotary position embedding (RoFormer, arXiv 2104.09864 section 3.2.2): angles theta^(-2i/dims), changed by linear,
// llama3 or yarn scaling (arXiv 2309.00071) as model configurations state them. Only the rotation matters here, so
// yarn's length factor, which multiplies cos and sin alike, is left in the values.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "kvzip/rope.hpp"

namespace kvzip {

struct Turns;

/// fail() unless heads of `head_dim` at positions below `positions` can be turned: all parameters are set (dims not 0)
/// and every angle stays where portable::sincos() holds. State and first_position are not looked at.
void check_rotary(const Rope& rope, std::uint64_t head_dim, std::uint64_t positions);

class Rotary {
 public:
  /// `rope` has passed check_rotary().
  explicit Rotary(const Rope& rope);
  /// Rows of heads that stand side by side, one row for each position from `first` on. Direction 1 turns, -1 turns
  /// back. Rows begin `stride` floats apart; 0: they follow each other.
  void turn(std::uint64_t first, int direction, std::size_t rows, std::size_t heads, std::size_t head_dim, float* x,
            std::size_t stride = 0) const;

 private:
  std::shared_ptr<const Turns> turns(std::uint64_t first, std::size_t rows) const;

  std::vector<double> frequency_;
  std::size_t step_, partner_;  // pair i is channels i * step_ and i * step_ + partner_
};

}  // namespace kvzip
