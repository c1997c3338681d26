// SPDX-License-Identifier: Apache-2.0
// The queries that a cache is measured with: the dump's own, or those of another file.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "codec/rotary.hpp"
#include "kvzip/io.hpp"
#include "src/measure/head_rows.hpp"

namespace kvzip::tool {

/// `n` numbers evenly spaced in [first, end), the middles of equal parts; all when there are no more, or n is 0.
std::vector<std::uint64_t> spread(std::uint64_t first, std::uint64_t end, std::uint64_t n);

class QuerySet {
 public:
  /// Of the dump itself; without queries when it holds none.
  QuerySet(DumpReader& own, const Recognition& recognition);
  /// Of another file. fail(invalid_argument) when it holds none, or its keys are not as those of the cache.
  QuerySet(const std::string& path, const RecogniseOptions& options, const Rope& keys);

  bool empty() const { return heads_.empty(); }
  const std::string& from() const { return from_; }
  /// Nothing, or what had to be assumed of these queries.
  const std::string& note() const { return note_; }
  std::uint64_t first_position() const { return first_position_; }
  /// One past the last position of any layer.
  std::uint64_t end_position() const;
  /// Null when a layer has none.
  const HeadRows* of(std::pair<std::uint32_t, std::uint64_t> layer) const;
  /// At most `n` queries of a layer at positions from `position` on.
  std::vector<std::uint64_t> choose(const HeadRows& rows, std::uint64_t position, std::uint64_t n) const;
  /// heads x chosen x channels; turned by their positions unless `rotary` is null.
  std::vector<float> read(const HeadRows& rows, const std::vector<std::uint64_t>& chosen, const Rotary* rotary);

 private:
  void find(const Recognition& recognition);

  std::unique_ptr<DumpReader> file_;
  DumpReader* reader_ = nullptr;
  std::string from_, note_;
  std::uint64_t first_position_ = 0;
  HeadMap heads_;
};

}  // namespace kvzip::tool
