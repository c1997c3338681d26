// SPDX-License-Identifier: Apache-2.0
// What a tensor is to attention.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace kvzip {

/// `pair` is a tensor that holds keys and values along its axis '2' (index 0 = key, 1 = value).
enum class Role : std::uint8_t { key, value, query, other, pair };
std::string_view role_name(Role role);                  // "key", "value", "query", "other", "key+value"
std::optional<Role> parse_role(std::string_view name);  // also "k", "v", "q", "kv", "pair"

}  // namespace kvzip
