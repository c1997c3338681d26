// SPDX-License-Identifier: Apache-2.0
// The queries that a cache is measured with: the dump's own, or those of another file.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "codec/rotary.hpp"
#include "formats/head_rows.hpp"
#include "kvzip/io.hpp"

namespace kvzip {

/// `n` numbers evenly spaced in [first, end), the middles of equal parts; all when there are no more, or n is 0.
std::vector<std::uint64_t> spread(std::uint64_t first, std::uint64_t end, std::uint64_t n);

/// The queries of a layer: one a token, from `first_position` on, or at these positions, which ascend.
struct LayerQueries : HeadRows {
  std::uint64_t first_position = 0;
  std::vector<std::uint64_t> kept{};

  std::uint64_t position(std::uint64_t query) const { return kept.empty() ? first_position + query : kept[query]; }
};

/// Positions are those that the metadata state. Where a file has fewer queries than keys of a layer, they are of the
/// last tokens. Where tokens were left out of the dump itself, its queries are of those that stay, and none are its own
/// where heads keep different ones.
class QuerySet {
 public:
  /// Of the dump itself; without queries when it holds none.
  QuerySet(DumpReader& own, const Recognition& recognition);
  /// Of another file. fail(invalid_argument) when it holds none, or its keys are not as those of the cache.
  QuerySet(const std::string& path, const RecogniseOptions& options, const Rope& keys);
  /// The same of a reader, which must outlive it.
  QuerySet(DumpReader& other, std::string name, const RecogniseOptions& options, const Rope& keys);

  bool empty() const { return layers_.empty(); }
  const std::string& from() const { return from_; }
  /// Nothing, or what had to be assumed of these queries.
  const std::string& note() const { return note_; }
  /// The first position of any layer.
  std::uint64_t first_position() const;
  /// One past the last position of any layer.
  std::uint64_t end_position() const;
  /// Null when a layer has none.
  const LayerQueries* of(std::pair<std::uint32_t, std::uint64_t> layer) const;
  /// At most `n` queries of a layer at positions from `position` on.
  std::vector<std::uint64_t> choose(const LayerQueries& rows, std::uint64_t position, std::uint64_t n) const;
  /// heads x chosen x channels; turned by their positions unless `rotary` is null.
  std::vector<float> read(const LayerQueries& rows, const std::vector<std::uint64_t>& chosen, const Rotary* rotary);

 private:
  void open(const RecogniseOptions& options, const Rope& keys);
  void find(const Recognition& recognition);
  void place(const HeadMap& heads, std::uint64_t first);

  std::unique_ptr<DumpReader> file_;
  DumpReader* reader_ = nullptr;
  bool other_ = false;  // not the dump itself
  std::string from_, note_;
  std::map<std::pair<std::uint32_t, std::uint64_t>, LayerQueries> layers_;
};

}  // namespace kvzip
