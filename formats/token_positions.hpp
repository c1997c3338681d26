// SPDX-License-Identifier: Apache-2.0
// Where in the sequence each token of a cache stood: a cache that tokens were left out of says so in a tensor.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <span>
#include <utility>
#include <vector>

#include "codec/rotary.hpp"
#include "formats/head_rows.hpp"

namespace kvzip {

/// Of the tensor that says which tokens are left of a cache.
inline constexpr const char* kPositionsName = "positions";

class TokenPositions {
 public:
  using Layer = std::pair<std::uint32_t, std::uint64_t>;  // layer, batch entry
  /// What to do with a tensor of the right name and shape whose numbers do not ascend from 0 or more.
  enum class Odd : std::uint8_t { refuse, ignore };

  TokenPositions() = default;
  /// One token after the other from `first` on.
  explicit TokenPositions(std::uint64_t first) : first_(first) {}
  /// Of the layers whose keys and values pair up. One token after the other from `first` on, unless the cache has a
  /// tensor `positions`, as prune writes it. `starts`: how much later the first row of each tensor is, where layers
  /// differ in length (first_positions()); empty = nowhere.
  TokenPositions(DumpReader& cache, const HeadMap& heads, std::uint64_t first, Odd odd,
                 std::span<const std::uint64_t> starts = {});

  /// Of `count` tokens of a head from its token `from` on.
  std::vector<std::uint64_t> of(const Layer& layer, std::uint64_t head, std::uint64_t from, std::uint64_t count) const;
  /// Turns `count` keys of `dims` channels, of a head's tokens from its token `from` on; back with a sign of -1.
  void turn(const Rotary& rotary, const Layer& layer, std::uint64_t head, std::uint64_t from, std::uint64_t count,
            std::size_t dims, float* keys, int sign = 1) const;
  /// Tokens were left out.
  bool stored() const { return stored_; }
  /// The first position that is behind the first `tokens` tokens of every head.
  std::uint64_t behind(std::uint64_t tokens) const;
  /// The first position of a layer, where none was left out.
  std::uint64_t first_of(const Layer& layer) const;

 private:
  bool read(DumpReader& cache, const std::vector<std::pair<Layer, const LayerHeads*>>& layers, std::size_t tensor,
            Odd odd);

  bool stored_ = false;
  std::uint64_t first_ = 0;
  std::map<Layer, std::uint64_t> starts_;  // those that are not 0
  std::vector<std::uint64_t> positions_;   // where they are stored
  /// How many lists of so many tokens these are: of batch entries, layers, heads; 1 where all share them.
  std::array<std::uint64_t, 3> lists_{1, 1, 1};
  std::uint64_t list_tokens_ = 0;
  std::vector<std::uint32_t> layer_numbers_;  // ascending
};

}  // namespace kvzip
