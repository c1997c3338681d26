// SPDX-License-Identifier: Apache-2.0
// Digests of a cache's keys, page by page, and the bounds that they give.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "formats/kvz/kvz_pages.hpp"
#include "kvzip/io.hpp"

namespace kvzip::tool {

/// Of heads x tokens x channels keys that begin with a page. Keys that are not finite are not there: attention leaves
/// them out, too.
class PageDigester {
 public:
  PageDigester(std::uint64_t heads, std::uint64_t tokens, std::uint64_t channels, std::uint32_t page_tokens);
  /// The tokens from `first` on: whole pages, or up to the last token. Any order.
  void add(std::uint64_t first, std::uint64_t count, std::span<const float> keys);
  PageList finish() const;

 private:
  void add_page(std::uint64_t at, std::uint64_t count, const float* keys);
  void quantise(PageList& out, std::uint64_t head) const;

  std::uint64_t heads_, tokens_, channels_, page_tokens_, pages_;
  std::vector<float> low_, high_, mean_;  // heads x pages x channels
  std::vector<double> radius_;            // heads x pages, about the mean; below 0: nothing finite
};

/// Of all layers with keys of one tensor; keys that are stored before rotary embedding are turned first.
/// fail(invalid_argument) where there are none.
KvzPages digest_pages(DumpReader& cache, const Recognition& recognition, std::uint32_t page_tokens,
                      const Progress& progress = {});

/// Those that the container of this path holds; fail(invalid_argument) where there are none.
KvzPages stored_pages(DumpReader& reader, const std::string& path);

enum class PageBy : std::uint8_t { box, sphere, both };
/// No less than q.k for any finite key k of the page; -infinity for a page without one. `query` is finite.
double page_bound(const PageList& list, std::uint64_t head, std::uint64_t page, std::span<const float> query,
                  PageBy by);

}  // namespace kvzip::tool
