// SPDX-License-Identifier: Apache-2.0
// Which dumps of a batch share first tokens, found before any of them is compressed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "src/cli/shared_prefix.hpp"

namespace kvzip::tool {

/// Of -o: a name that ends with .tar and is no folder.
bool names_collection(const std::string& out);
/// Where containers go that name each other: --output-dir, or -o where it names a folder, which need not exist.
/// UsageError where it names a file that is no collection: an element stands in one container once, for one tensor.
std::string sharing_folder(const std::string& out, const std::string& folder);

/// Of one dump.
struct PrefixPlan {
  std::optional<std::size_t> base;  // the earlier file whose container has its first tokens
  std::uint64_t tokens = 0;         // of it, by their hashes
  unsigned depth = 0;               // containers that its own needs
};

/// For each file the earlier one with most tokens in common, at least `least`, whose container stands in the same
/// folder; of several the first. Each token is read and hashed once, and of dumps that go apart soon only the first
/// ones. Pipes, files that cannot be read, and those whose output is kept share nothing.
std::vector<PrefixPlan> plan_prefixes(const Batch& batch, const std::vector<BatchFile>& files, const OpenDump& open,
                                      std::uint64_t least, const Progress& progress = {});

}  // namespace kvzip::tool
