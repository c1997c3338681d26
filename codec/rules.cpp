// SPDX-License-Identifier: Apache-2.0
// Preset text: rules that give each tensor its pipeline.
#include <algorithm>

#include "codec/fail.hpp"
#include "codec/limits.hpp"
#include "codec/nearest.hpp"
#include "codec/number.hpp"
#include "codec/pipeline.hpp"
#include "codec/split.hpp"
#include "kvzip/rules.hpp"

namespace kvzip {
namespace {

constexpr std::string_view kLayersScope = "layers=";

template <typename T>
T number(std::string_view text, std::string_view what, T least = 0) {
  const auto value = parse_number<T>(text, least);
  if (!value) fail(ErrorCode::invalid_argument, "'{}' is not {}", text, what);
  return *value;
}

/// "A" or "A-B".
std::pair<std::string_view, std::string_view> range(std::string_view text) {
  const auto dash = text.find('-');
  if (dash == std::string_view::npos) return {text, text};
  return {trimmed(text.substr(0, dash)), trimmed(text.substr(dash + 1))};
}

/// "*", "A-B", "P%-Q%", each with an optional " of A-B".
void parse_layers(std::string_view text, Rule& rule) {
  if (const auto of = text.find(" of "); of != std::string_view::npos) {
    const auto [low, high] = range(trimmed(text.substr(of + 4)));
    rule.layers_min = number<std::uint32_t>(low, "a layer count");
    rule.layers_max = number<std::uint32_t>(high, "a layer count");
    text = text.substr(0, of);
  }
  text = trimmed(text);
  rule.any_layer = text == "*";
  if (rule.any_layer) return;
  auto [low, high] = range(text);
  rule.percent = low.ends_with('%') && high.ends_with('%');
  if (rule.percent) {
    low.remove_suffix(1);
    high.remove_suffix(1);
  }
  rule.from = number<double>(low, "a layer");
  rule.to = number<double>(high, "a layer");
  if (rule.from > rule.to) fail(ErrorCode::invalid_argument, "layers '{}' run backwards", text);
}

/// "ROLE", "ROLE/head" or "ROLE/layers=N".
void parse_scope(std::string_view text, Rule& rule) {
  const auto slash = text.find('/');
  const std::string_view role = trimmed(text.substr(0, slash));
  const std::string_view scope = slash == std::string_view::npos ? std::string_view{} : trimmed(text.substr(slash + 1));
  if (role == "kv") {
    rule.role = Role::pair;
    rule.scope = Rule::Scope::pair;
  } else if (role == "key" || role == "value" || role == "query" || role == "other") {
    rule.role = *parse_role(role);
  } else {
    fail(ErrorCode::invalid_argument, "'{}' is not a role: key, value, kv, query or other{}", role,
         did_you_mean(role, role_words()));
  }
  if (slash == std::string_view::npos) return;
  if (scope == "head") {
    if (rule.role == Role::pair) {
      fail(ErrorCode::invalid_argument, "kv/head: a tile is either keys and values together or one head");
    }
    rule.scope = Rule::Scope::head;
  } else if (scope.starts_with(kLayersScope)) {
    rule.joint_layers = number<std::uint32_t>(trimmed(scope.substr(kLayersScope.size())), "a number of layers");
    if (rule.joint_layers == 0 || rule.joint_layers > limits::kJointLayers || rule.role == Role::other) {
      fail(ErrorCode::invalid_argument, "'{}': a tile of keys, values, queries or both has 1 to {} layers", text,
           limits::kJointLayers);
    }
  } else {
    fail(ErrorCode::invalid_argument, "'{}' is not a scope: head or layers=N", scope);
  }
}

Rule parse_rule(std::string_view left, std::string_view right) {
  Rule rule;
  std::string_view role = left;
  if (const auto open = left.find('['); open != std::string_view::npos) {
    if (!left.ends_with(']')) fail(ErrorCode::invalid_argument, "'{}' has no closing ']'", left);
    role = trimmed(left.substr(0, open));
    parse_layers(left.substr(open + 1, left.size() - open - 2), rule);
  }
  parse_scope(role, rule);
  rule.pipeline = canonical_pipeline(right);
  if (rule.role == Role::other && !Pipeline::parse(rule.pipeline).exact()) {
    fail(ErrorCode::invalid_argument, "what is neither key, value nor query is stored exactly: '{}' is not", right);
  }
  return rule;
}

}  // namespace

bool Rule::matches(Role tensor_role, std::uint32_t layer, std::uint32_t layer_count) const {
  if (tensor_role != role || layer_count < layers_min || layer_count > layers_max) return false;
  if (any_layer) return true;
  if (!percent) return layer >= from && layer <= to;
  return layer_count != 0 && layer * 100.0 / layer_count >= from && layer * 100.0 / layer_count < to;
}

RuleSet RuleSet::parse(std::string_view text, std::string_view name) {
  RuleSet set;
  set.name = name;
  for (std::size_t line_number = 1; !text.empty(); ++line_number) {
    const auto end = text.find('\n');
    std::string_view line = text.substr(0, end);
    text = end == std::string_view::npos ? std::string_view{} : text.substr(end + 1);
    line = trimmed(line.substr(0, line.find('#')));
    if (line.empty()) continue;
    try {
      // The scope and the brackets may hold an '=' of their own.
      std::size_t from = 0;
      if (const auto slash = line.find('/'); slash != std::string_view::npos) {
        if (line.substr(slash + 1).starts_with(kLayersScope)) from = slash + 1 + kLayersScope.size();
      }
      if (const auto bracket = line.find(']'); bracket != std::string_view::npos) from = std::max(from, bracket);
      const auto equals = line.find('=', from);
      if (equals == std::string_view::npos) {
        fail(ErrorCode::invalid_argument, "'{}' is not ROLE[LAYERS] = PIPELINE, chunk = N or restart = N", line);
      }
      const std::string_view left = trimmed(line.substr(0, equals)), right = trimmed(line.substr(equals + 1));
      if (left == "chunk") {
        set.chunk_tokens = right == "all" ? 0 : number<std::uint64_t>(right, "a number of tokens or 'all'");
      } else if (left == "restart") {
        set.restart = right == "all" ? 0 : number<std::uint64_t>(right, "a number of frames or 'all'", 1);
      } else {
        set.rules.push_back(parse_rule(left, right));
      }
    } catch (Error& e) {
      e.add_where(fmt::format("{}, line {}", name, line_number));
      throw;
    }
  }
  if (set.rules.empty()) fail(ErrorCode::invalid_argument, "{}: it holds no rule", name);
  return set;
}

RuleSet RuleSet::builtin(std::string_view name) {
  std::vector<std::string_view> known;
  for (const PresetText& preset : builtin_presets()) {
    if (preset.name == name) return parse(preset.text, name);
    known.push_back(preset.name);
  }
  const std::string guess = did_you_mean(name, known);
  if (!guess.empty()) fail(ErrorCode::invalid_argument, "there is no preset '{}'{}", name, guess);
  fail(ErrorCode::invalid_argument, "there is no preset '{}'; there are {}; a file's path works too", name,
       fmt::join(known, ", "));
}

void RuleSet::override_role(Role role, std::string_view pipeline) {
  Rule rule;
  rule.role = role;
  rule.pipeline = canonical_pipeline(pipeline);
  // A rule for K and V together would otherwise still win for this role.
  std::erase_if(rules, [](const Rule& r) { return r.scope == Rule::Scope::pair; });
  rules.insert(rules.begin(), std::move(rule));
}

std::string RuleSet::text() const {
  std::string out;
  if (chunk_tokens) out += *chunk_tokens == 0 ? "chunk = all\n" : fmt::format("chunk = {}\n", *chunk_tokens);
  if (restart) out += *restart == 0 ? "restart = all\n" : fmt::format("restart = {}\n", *restart);
  for (const Rule& rule : rules) {
    std::string layers = "*";
    if (!rule.any_layer)
      layers = rule.percent ? fmt::format("{}%-{}%", rule.from, rule.to) : fmt::format("{}-{}", rule.from, rule.to);
    if (rule.layers_min != 0 || rule.layers_max != Rule{}.layers_max) {
      layers += fmt::format(" of {}-{}", rule.layers_min, rule.layers_max);
    }
    const std::string_view role = rule.role == Role::pair ? "kv" : role_name(rule.role);
    std::string scope = rule.scope == Rule::Scope::head ? "/head" : "";
    if (rule.joint_layers != 1) scope = fmt::format("/{}{}", kLayersScope, rule.joint_layers);
    out += fmt::format("{}{}[{}] = {}\n", role, scope, layers, rule.pipeline);
  }
  return out;
}

std::string_view PresetText::summary() const {
  std::string_view line = text.substr(0, text.find('\n'));
  if (line.starts_with('#')) line.remove_prefix(1);
  return trimmed(line);
}

bool RuleSet::exact() const {
  return std::ranges::all_of(rules, [](const Rule& rule) {
    return rule.role == Role::query || rule.role == Role::other || Pipeline::parse(rule.pipeline).exact();
  });
}

}  // namespace kvzip
