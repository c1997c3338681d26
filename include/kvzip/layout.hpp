// SPDX-License-Identifier: Apache-2.0
// Which tensors of a dump are keys and values, and what each of their axes means.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kvzip/axes.hpp"
#include "kvzip/dump.hpp"

namespace kvzip {

/// `pair` is a tensor that holds keys and values along its axis '2' (index 0 = key, 1 = value).
enum class Role : std::uint8_t { key, value, query, other, pair };
std::string_view role_name(Role role);                  // "key", "value", "query", "other", "key+value"
std::optional<Role> parse_role(std::string_view name);  // also "k", "v", "q", "kv", "pair"

/// What a tensor is. Of keys, values and queries the axes are one per dimension, with T and either D or C.
struct TensorRole {
  Role role = Role::other;
  std::optional<std::uint32_t> layer;  // layer number when the name gives it; absent when the axis L does
  Axes axes;                           // none for role other
  std::string why;                     // one phrase: the rule that matched, or why none did
};

/// How rotary position embedding stands in the keys.
struct Rope {
  enum class State : std::uint8_t { unknown, none, pre, post };  // post: keys are rotated (the usual dump)
  enum class Layout : std::uint8_t { half, interleaved };
  enum class Scaling : std::uint8_t { none, linear, llama3, yarn };
  State state = State::unknown;
  double theta = 0;  // 0 = unknown
  Layout layout = Layout::half;
  Scaling scaling = Scaling::none;
  double factor = 1;                                 // linear, llama3, yarn
  double low_freq_factor = 1, high_freq_factor = 4;  // llama3
  double original_context = 8192;                    // llama3, yarn: original_max_position_embeddings
  std::uint32_t dims = 0;                            // rotary dimensions of a head; 0 = all
  std::uint64_t first_position = 0;                  // position of token 0 of the dump
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
  Axes axes;
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
