// SPDX-License-Identifier: Apache-2.0
// Which tensors of a dump are keys and values, and what each of their axes means.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kvzip/dump.hpp"
#include "kvzip/role.hpp"
#include "kvzip/rope.hpp"

namespace kvzip {

/// Axis letters, one per dimension: B batch, L layer, 2 key/value pair, H head, T token, D head_dim,
/// C merged H*D (head-major). Each at most once; T is required; D or C is required; not both.
struct TensorRole {
  Role role = Role::other;
  std::optional<std::uint32_t> layer;  // layer number when the name gives it; absent when the axis L does
  std::string axes;                    // empty for role other
  std::string why;                     // one phrase: the rule that matched, or why none did
};

/// What the dump as a whole says of its model.
struct ModelInfo {
  std::string model;           // name, empty when unknown
  std::uint32_t layers = 0;    // largest layer seen + 1, or the metadata's n_layers when larger
  std::uint32_t kv_heads = 0;  // from metadata; 0 = unknown
  std::uint32_t head_dim = 0;  // from metadata; 0 = unknown
  Rope rope;
};

struct Recognition {
  std::vector<TensorRole> tensors;  // one per tensor of the dump
  ModelInfo model;
  std::size_t recognised = 0;  // tensors with role key, value or pair
};

/// --map PATTERN=ROLE:AXES. PATTERN is a glob over the tensor name ('*' any run, '?' one character) in which '{L}'
/// matches the decimal layer number. First match wins, before the built-in table. AXES may be empty for role other.
struct MapRule {
  std::string pattern;
  Role role = Role::other;
  std::string axes;
};
MapRule parse_map_rule(std::string_view text);

struct RecogniseOptions {
  std::vector<MapRule> map;
  std::string
      layout;  // --layout: axes for every tensor whose role the table finds, replacing the table's; empty = none
};

/// Finds role, layer and axes of every tensor by name and shape. Never guesses between two readings: a tensor whose
/// axes are ambiguous is `other`, and `why` says which option settles it. Only codable float dtypes become key, value,
/// query or pair.
Recognition recognise(const Dump& dump, const RecogniseOptions& options = {});

}  // namespace kvzip
