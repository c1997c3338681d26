// SPDX-License-Identifier: Apache-2.0
// What a tensor's name says: whose keys or values it holds, and of which layer.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "codec/limits.hpp"
#include "kvzip/layout.hpp"

namespace kvzip {

/// latent: compressed keys and values of multi-head latent attention (MLA); rope_part: its rotary key channels.
enum class NameKind : std::uint8_t { unknown, single, pair, latent, rope_part };
/// Who writes tensors under such names; decides the order of axes that a name implies.
enum class Family : std::uint8_t {
  plain,
  hugging_face,
  mlx,
  vllm,
  lmcache,
  lmcache_heads_first,
  transformer_lens,
  flax
};

struct NameReading {
  NameKind kind = NameKind::unknown;
  Role role = Role::other;
  std::optional<std::uint32_t> layer;
  Family family = Family::plain;
  std::string_view pattern;  // the form that matched, as one example of it
  Hint hint = Hint::none;    // what settles it where the kind is unknown
};

/// Reads a name of any length and content; never fails.
NameReading read_name(std::string_view name);

/// "3.0" gives {3, 0}: a dotted list of at least two and at most five numbers below limits::kLayers; empty otherwise.
std::vector<std::uint32_t> numeric_path(std::string_view name);

/// A decimal number below limits::kLayers.
std::optional<std::uint32_t> parse_layer(std::string_view digits);

}  // namespace kvzip
