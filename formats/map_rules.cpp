// SPDX-License-Identifier: Apache-2.0
// --map: the user's own table of names. A glob needs only one place to go back to (the last '*'), so hostile names cost
// no exponential time. That stays true with '{L}' since it takes whole runs of digits: a later start never ends
// earlier.
#include "formats/map_rules.hpp"

#include "codec/fail.hpp"
#include "codec/nearest.hpp"
#include "formats/axes_choice.hpp"
#include "formats/name_patterns.hpp"
#include "kvzip/layout.hpp"

namespace kvzip {
namespace {

constexpr std::string_view kLayerMark = "{L}";

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

/// The length of the run of digits that begins at `at`; 0 when none does.
std::size_t digit_run(std::string_view name, std::size_t at) {
  if (at > 0 && is_digit(name[at - 1])) return 0;
  std::size_t end = at;
  while (end < name.size() && is_digit(name[end])) ++end;
  return end - at;
}

}  // namespace

std::optional<GlobMatch> match_glob(std::string_view pattern, std::string_view name) {
  GlobMatch match;
  std::size_t p = 0, n = 0, star = pattern.npos, star_end = 0;
  while (n < name.size() || p < pattern.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      star_end = n;
      continue;
    }
    std::size_t pattern_step = 1, name_step = 0;
    if (pattern.substr(p).starts_with(kLayerMark)) {
      const std::size_t run = digit_run(name, n);
      const auto layer = parse_layer(name.substr(n, run));
      if (layer) match.layer = layer;
      pattern_step = kLayerMark.size();
      name_step = layer ? run : 0;
    } else if (p < pattern.size() && n < name.size() && (pattern[p] == '?' || pattern[p] == name[n])) {
      name_step = 1;
    }
    if (name_step > 0) {
      p += pattern_step;
      n += name_step;
      continue;
    }
    if (star == pattern.npos || star_end >= name.size()) return std::nullopt;
    p = star + 1;
    n = ++star_end;
  }
  return match;
}

MapRule parse_map_rule(std::string_view text) {
  constexpr std::string_view example = "expected PATTERN=ROLE:AXES, for example 'layers.{L}.k=key:BHTD'";
  const std::size_t equals = text.rfind('=');
  if (equals == text.npos || equals == 0) fail(ErrorCode::invalid_argument, "'{}': {}", text, example);
  MapRule rule;
  rule.pattern = text.substr(0, equals);
  const std::string_view target = text.substr(equals + 1);
  const std::size_t colon = target.find(':');
  const auto role = parse_role(target.substr(0, colon));
  if (!role) {
    fail(ErrorCode::invalid_argument, "'{}': '{}' is not a role (key, value, query, kv, other){}; {}", text,
         target.substr(0, colon), did_you_mean(target.substr(0, colon), role_words()), example);
  }
  rule.role = *role;
  const std::string_view axes = colon == target.npos ? "" : target.substr(colon + 1);
  const std::size_t mark = rule.pattern.find(kLayerMark);
  if (mark != rule.pattern.npos && rule.pattern.find(kLayerMark, mark + 1) != rule.pattern.npos) {
    fail(ErrorCode::invalid_argument, "'{}': {} may be given once", text, kLayerMark);
  }
  if (rule.role == Role::other) {
    if (!axes.empty()) fail(ErrorCode::invalid_argument, "'{}': role other takes no axes", text);
    return rule;
  }
  if (const std::string problem = axes_problem(axes); !problem.empty()) {
    fail(ErrorCode::invalid_argument, "'{}': axes '{}': {}; {}", text, axes, problem, example);
  }
  rule.axes = Axes(axes);
  if (rule.axes.has('2') != (rule.role == Role::pair)) {
    fail(ErrorCode::invalid_argument, "'{}': axis 2 (key, value) and role kv go together", text);
  }
  return rule;
}

}  // namespace kvzip
