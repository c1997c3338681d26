// SPDX-License-Identifier: Apache-2.0
// Dumps of a batch that begin with the same tokens.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kvzip/container.hpp"
#include "src/cli/batch.hpp"

namespace kvzip::tool {

/// A dump that has its container.
struct SharedDump {
  std::string in, out;
  unsigned depth = 0;  // containers that its own needs
};

/// How many of its first tokens are the same in both, bit by bit in every key, value and query: at most all but one of
/// `b`. 0 where tensors differ in more than their tokens, or the models do, or elements are no floats.
std::uint64_t common_tokens(DumpReader& a, const Recognition& roles_of_a, DumpReader& b, const Recognition& roles_of_b);

using OpenDump = std::function<std::pair<std::unique_ptr<DumpReader>, Recognition>(const std::string& in)>;

/// Looks among dumps whose containers stand in the folder of `out` for the one that begins with most of the tokens of
/// `reader`. Where these are as many as a chunk has, leaves in `reader` and `roles` what follows them, names the base
/// in `options`, counts in `outcome`, and returns the whole, which must outlive `reader`; else null. `open` reads a
/// dump again.
std::unique_ptr<DumpReader> share_prefix(const std::vector<SharedDump>& before, const std::string& out,
                                         const OpenDump& open, std::unique_ptr<DumpReader>& reader, Recognition& roles,
                                         KvzOptions& options, Outcome& outcome);

}  // namespace kvzip::tool
