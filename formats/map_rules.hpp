// SPDX-License-Identifier: Apache-2.0
// Matching of --map rules.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace kvzip {

struct GlobMatch {
  std::optional<std::uint32_t> layer;  // what '{L}' matched
};
/// Whole-name match of a pattern with '*', '?' and at most one '{L}' (a whole run of digits that is a layer number).
/// Time is at most name x pattern, whatever they hold.
std::optional<GlobMatch> match_glob(std::string_view pattern, std::string_view name);

}  // namespace kvzip
