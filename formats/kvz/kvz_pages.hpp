// SPDX-License-Identifier: Apache-2.0
// The record "pages" of a container (man/kvz.5): what the keys of some tokens have in common, so that a query can say
// which pages it has no use for. Boxes and spheres as in ArkVale (NeurIPS 2024), stored in 8 bits and widened, so that
// they still hold every key.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "formats/file.hpp"

namespace kvzip {

/// Digests of the keys of one layer and batch entry.
struct PageList {
  std::uint32_t layer = 0;
  std::uint64_t batch = 0;
  std::uint32_t heads = 0, channels = 0;
  std::uint64_t tokens = 0, pages = 0;
  std::vector<float> base, step;                // heads x channels: code i stands for base + i step
  std::vector<std::uint8_t> low, high, centre;  // heads x pages x channels
  std::vector<float> radius;                    // heads x pages; below 0: no key of the page is finite

  double value(std::uint64_t head, std::uint64_t channel, std::uint8_t code) const {
    const std::uint64_t at = head * channels + channel;
    return double{base[at]} + double{step[at]} * code;
  }
  std::uint64_t page(std::uint64_t head, std::uint64_t index) const { return head * pages + index; }
  bool empty(std::uint64_t head, std::uint64_t index) const { return radius[page(head, index)] < 0; }
};

struct KvzPages {
  std::uint32_t page_tokens = 0;
  std::vector<PageList> lists;  // by layer, then batch entry

  /// Null where there is none.
  const PageList* of(std::uint32_t layer, std::uint64_t batch) const;
};

Bytes write_kvz_pages(const KvzPages& pages);
/// Hostile bytes; fail(corrupt) or fail(truncated).
KvzPages read_kvz_pages(ByteView payload);

/// The record of a container that open_kvz() has taken; none where it has none.
std::optional<KvzPages> find_kvz_pages(InputFile file);
/// Copies a sound container and puts the record in front of its index. Does not finish `out`.
void add_kvz_pages(InputFile container, const KvzPages& pages, OutputFile& out);

}  // namespace kvzip
