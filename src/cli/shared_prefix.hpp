// SPDX-License-Identifier: Apache-2.0
// Dumps of a batch that begin with the same tokens.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "formats/collection.hpp"
#include "kvzip/container.hpp"
#include "src/cli/batch.hpp"

namespace kvzip::tool {

/// A dump whose container another one takes its first tokens from.
struct SharedDump {
  std::string in, out;
  const CollectionWriter* all = nullptr;  // where that is a member of it
};

/// What has to agree for dumps to have tokens in common, but for the model: all keys, values and queries by name, with
/// their type, role, layer, axes and, but for the tokens, shape. Empty where elements are no floats, or tensors have
/// not all as many tokens.
std::string sharing_kind(const Dump& dump, const Recognition& roles);

/// How many of its first tokens are the same in both, bit by bit in every key, value and query: at most all but one of
/// `b`. 0 where sharing_kind() or the models differ. `progress` is told of tensors.
std::uint64_t common_tokens(DumpReader& a, const Recognition& roles_of_a, DumpReader& b, const Recognition& roles_of_b,
                            const Progress& progress = {});

/// Hashes of the first tokens of a dump, each of all its keys, values and queries. Reads no more than is asked for.
class TokenHashes {
 public:
  TokenHashes() = default;
  explicit TokenHashes(std::uint64_t tokens) : tokens_(tokens) {}
  std::uint64_t tokens() const { return tokens_; }
  const std::vector<std::uint64_t>& known() const { return hashes_; }
  /// Knows `count` of them after this, or all.
  void extend(DumpReader& reader, const Recognition& roles, std::uint64_t count);

 private:
  std::uint64_t tokens_ = 0;
  std::vector<std::uint64_t> hashes_;
};

using OpenDump = std::function<std::pair<std::unique_ptr<DumpReader>, Recognition>(const std::string& in)>;

/// The fewest tokens that are shared: as many as a chunk has.
std::uint64_t least_shared(const KvzOptions& options);

/// Where `reader` begins as the dump of `base` does, leaves in `reader` and `roles` what follows, names the base in
/// `options`, counts in `outcome`, and returns the whole, which must outlive `reader`; else null. `open` reads the
/// base's dump.
std::unique_ptr<DumpReader> share_prefix(const SharedDump& base, const OpenDump& open,
                                         std::unique_ptr<DumpReader>& reader, Recognition& roles, KvzOptions& options,
                                         Outcome& outcome, const Progress& progress = {});

}  // namespace kvzip::tool
