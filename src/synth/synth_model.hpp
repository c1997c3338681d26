// SPDX-License-Identifier: Apache-2.0
// The numbers behind `kvzip synth`: a statistical model of a decoder's cache in which every value follows from the seed
// and its own coordinates, so that any part can be made in any order and on any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "kvzip/dtype.hpp"
#include "kvzip/layout.hpp"

namespace kvzip {

struct SynthOptions {
  std::uint32_t layers = 0, heads = 0, head_dim = 0;
  std::uint32_t query_heads = 0;  // 0 = no queries
  std::uint64_t tokens = 0;
  DType dtype = DType::f16;
  std::uint64_t seed = 0;
  double rope_theta = 500000;  // 0 = keys and queries are not rotated
};

/// How one channel of one layer stands: a constant and the deviation of what varies around it.
struct SynthChannel {
  float bias = 0, scale = 0;
  float ratio = 1;  // mean magnitude over the layer's median magnitude
};

/// What all blocks of one head share.
struct SynthHead {
  Role role = Role::key;
  std::uint32_t layer = 0, head = 0;
  std::vector<SynthChannel> channels;
  std::vector<float> loadings;  // factors x padded head_dim
  std::vector<float> sink;      // the key of a sink token, before rotation
};

class SynthModel {
 public:
  static constexpr std::uint64_t kBlockTokens = 64;
  static constexpr std::uint64_t kSinkTokens = 1;

  explicit SynthModel(const SynthOptions& options);

  SynthHead head(Role role, std::uint32_t layer, std::uint32_t head) const;
  /// The values of tokens block * kBlockTokens onwards, kBlockTokens rows of head_dim.
  void block(const SynthHead& head, std::uint64_t block, std::span<float> out) const;
  std::int32_t token_id(std::uint64_t token) const;

 private:
  void add_profile(Role role, std::uint32_t layer);
  std::vector<float> loadings(Role role, std::uint32_t layer, std::uint32_t head) const;
  void factors(std::uint32_t layer, std::uint64_t block, std::span<float> out) const;
  void rotate(std::uint64_t first_token, std::span<float> rows) const;

  SynthOptions options_;
  std::size_t padded_dim_ = 0;
  std::vector<SynthChannel> profiles_;  // [layer][key, value][head][channel]
  std::vector<double> frequencies_;     // radians per token of each rotary pair
};

}  // namespace kvzip
