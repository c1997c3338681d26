// SPDX-License-Identifier: Apache-2.0
#include "kvzip/role.hpp"

namespace kvzip {

std::string_view role_name(Role role) {
  switch (role) {
    case Role::key:
      return "key";
    case Role::value:
      return "value";
    case Role::query:
      return "query";
    case Role::pair:
      return "key+value";
    case Role::other:
      break;
  }
  return "other";
}

std::optional<Role> parse_role(std::string_view name) {
  if (name == "key" || name == "k") return Role::key;
  if (name == "value" || name == "v") return Role::value;
  if (name == "query" || name == "q") return Role::query;
  if (name == "pair" || name == "kv" || name == "key+value") return Role::pair;
  if (name == "other") return Role::other;
  return std::nullopt;
}

}  // namespace kvzip
