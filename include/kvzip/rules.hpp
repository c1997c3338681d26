// SPDX-License-Identifier: Apache-2.0
// Pipelines as text, the rules that give each tensor its pipeline, and the presets.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kvzip/role.hpp"

namespace kvzip {

/// `kvzip::Error(invalid_argument)` unless the text is a sensible pipeline; returns it in canonical form (every field
/// that differs from its default, in declared order).
std::string canonical_pipeline(std::string_view text);

/// A built-in preset: the file codec/presets/NAME.txt, embedded.
struct PresetText {
  std::string_view name, text;
  std::string_view summary() const;  // the first comment line
};
std::span<const PresetText> builtin_presets();
inline constexpr std::string_view kDefaultPreset = "kvzip-near";

/// Preset text: `role[layers] = pipeline` lines, first match wins, `chunk = N|all` and `restart = N|all`.
struct Rule {
  enum class Scope : std::uint8_t { tensor, head, pair };  // pair: K and V of a layer side by side (`kv[...]`)
  Role role = Role::other;                                 // key, value, pair (kv), query or other
  Scope scope = Scope::tensor;
  double from = 0, to = 0;  // layers: absolute inclusive, or percent of the layer count (from <= p < to)
  bool percent = false, any_layer = true;
  std::uint32_t joint_layers = 1;                         // consecutive layers side by side in a tile (`layers=N`)
  std::uint32_t layers_min = 0, layers_max = 0xffffffff;  // applies to models with this many layers ("of A-B")
  std::string pipeline;                                   // canonical
  bool matches(Role tensor_role, std::uint32_t layer, std::uint32_t layer_count) const;
};
struct RuleSet {
  std::string name;  // preset name or file name, recorded in the container
  std::vector<Rule> rules;
  std::optional<std::uint64_t> chunk_tokens;  // 0 = all; none = the default of 256
  std::optional<std::uint64_t> restart;       // frames from one restart point to the next; 0 = all; none = 16

  static RuleSet parse(std::string_view text, std::string_view name);
  /// A built-in preset by name; fail(invalid_argument) lists the names when there is none.
  static RuleSet builtin(std::string_view name);
  /// Puts a rule for every layer of `role` before the others (--key, --value).
  void override_role(Role role, std::string_view pipeline);
  /// No rule for keys or values changes them.
  bool exact() const;
  /// The rules as a preset file that parse() reads back.
  std::string text() const;
};

}  // namespace kvzip
