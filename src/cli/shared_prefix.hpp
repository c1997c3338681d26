// SPDX-License-Identifier: Apache-2.0
// Dumps of a batch that begin with the same tokens.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kvzip/container.hpp"

namespace kvzip::tool {

/// A dump that has its container.
struct SharedDump {
  std::string in, out;
  unsigned depth = 0;  // containers that its own needs
};

/// How many of its first tokens are the same in both, bit by bit in every key, value and query: at most all but one of
/// `b`. 0 where tensors differ in more than their tokens, or the models do, or elements are no floats.
std::uint64_t common_tokens(DumpReader& a, const Recognition& roles_of_a, DumpReader& b, const Recognition& roles_of_b);

/// What follows the first tokens; what is no key, value or query is whole.
struct Tail {
  std::unique_ptr<DumpReader> reader;
  Recognition roles;
};
Tail tail_of(DumpReader& inner, const Recognition& roles, std::uint64_t tokens);

}  // namespace kvzip::tool
