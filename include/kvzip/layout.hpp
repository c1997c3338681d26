// SPDX-License-Identifier: Apache-2.0
// Which tensors of a dump are keys and values, and what each of their axes means.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kvzip/axes.hpp"
#include "kvzip/dump.hpp"
#include "kvzip/error.hpp"
#include "kvzip/role.hpp"
#include "kvzip/rope.hpp"

namespace kvzip {

/// What a tensor is. Of keys, values and queries the axes are one per dimension, with T and either D or C.
struct TensorRole {
  Role role = Role::other;
  std::optional<std::uint32_t> layer;  // layer number when the name gives it; absent when the axis L does
  Axes axes;                           // none for role other
  std::string why;                     // one phrase: the rule that matched, or why none did
  // What follows helps to settle what is open; containers do not store it.
  Hint hint = Hint::none;
  std::vector<Axes> readings{};  // axes that the shape allows, where none was taken
  std::vector<Axes> rivals{};    // axes that the shape allows besides those taken by convention: values may tell
  bool asked = false;            // a map rule says that it is none of keys, values and queries
};

/// What attention in a layer is.
struct LayerAttention {
  Rope rope;
  std::uint64_t window = 0;  // tokens that a query sees, its own among them; 0 = all up to its own

  bool operator==(const LayerAttention&) const = default;
};

/// What the dump as a whole says of its model.
struct ModelInfo {
  std::string model;           // name, empty when unknown
  std::uint32_t layers = 0;    // largest layer seen + 1, or the metadata's n_layers when larger
  std::uint32_t kv_heads = 0;  // from metadata; 0 = unknown
  std::uint32_t head_dim = 0;  // from metadata; 0 = unknown
  Rope rope;
  std::uint64_t window = 0;                     // see LayerAttention
  std::map<std::uint32_t, LayerAttention> own;  // layers unlike the others; positions begin as in `rope`

  LayerAttention attention(std::uint32_t layer) const;
  bool operator==(const ModelInfo&) const = default;
};

struct Recognition {
  std::vector<TensorRole> tensors;  // one per tensor of the dump
  ModelInfo model;
  std::size_t recognised = 0;  // tensors with role key, value or pair
};

/// PATTERN=ROLE:AXES as text. PATTERN is a glob over the tensor name ('*' any run, '?' one character) in which '{L}'
/// matches the decimal layer number. First match wins, before the built-in table. AXES may be empty for role other.
struct MapRule {
  std::string pattern;
  Role role = Role::other;
  Axes axes;
};
MapRule parse_map_rule(std::string_view text);

struct RecogniseOptions {
  std::vector<MapRule> map;
  std::string layout;  // axes for every tensor whose role the table finds, replacing the table's; empty = none
};

/// Finds role, layer and axes of every tensor by name and shape. Never guesses between two readings: a tensor whose
/// axes are ambiguous is `other`, and `hint` says what settles it. Only codable float dtypes become key, value,
/// query or pair.
Recognition recognise(const Dump& dump, const RecogniseOptions& options = {});

}  // namespace kvzip
