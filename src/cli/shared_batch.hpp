// SPDX-License-Identifier: Apache-2.0
// A container of each dump of a batch, of which some have their first tokens in an earlier one: in a folder, or in one
// file, a collection (man/kvz.5).
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "src/cli/shared_prefix.hpp"

namespace kvzip::tool {

struct SharedBatch {
  std::string out;          // of -o; empty = --output-dir, or beside each input
  bool remove = false;      // --rm
  std::uint64_t least = 0;  // tokens worth sharing
  OpenDump open;
  /// Makes one container; `base` is null where it stands for itself, `all` where it is a file.
  std::function<Outcome(const BatchFile&, const SharedDump* base, CollectionWriter* all)> one;
};
/// `files` without outputs yet, which `name` gives.
int compress_shared(const SharedBatch& o, Batch batch, const Common& common, std::vector<BatchFile> files,
                    const std::function<std::string(const std::string&)>& name);

}  // namespace kvzip::tool
