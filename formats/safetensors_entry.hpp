// SPDX-License-Identifier: Apache-2.0
// What reading and writing of a safetensors header share.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <numeric>
#include <string_view>
#include <vector>

#include "codec/fail.hpp"
#include "formats/text.hpp"
#include "kvzip/dtype.hpp"

namespace kvzip {

inline constexpr std::uint64_t kMaxNumber = std::numeric_limits<std::int64_t>::max();
inline constexpr std::string_view kMetadata = "__metadata__";
inline constexpr std::array<std::string_view, 3> kEntryKeys{"dtype", "shape", "data_offsets"};
// Of a tensor's entry, keys that LMCache writes and the specification does not have are attributes of the tensor with
// this before their names and their JSON for a value. So is a type's name where it is not the specification's.
inline constexpr std::string_view kExtraKeys[] = {"fmt", "shapes", "dtypes", "__metadata__"};
inline constexpr std::string_view kExtra = "safetensors:";
inline constexpr std::string_view kExtraDtype = "safetensors:dtype";
// Files with LMCache's fmt have their data here, whatever their headers' length.
inline constexpr std::string_view kExtraFormat = "safetensors:fmt";
inline constexpr std::size_t kLmcacheHeader = 4096 - 8;

struct DtypeAlias {
  std::string_view name;
  DType dtype;
};
inline constexpr DtypeAlias kAliases[] = {{"F8E4M3FN", DType::f8_e4m3}, {"F8E5M2", DType::f8_e5m2}};

/// Positions of `items` in ascending order of `key`.
template <typename T, typename F>
std::vector<std::size_t> sorted_positions(const std::vector<T>& items, F key) {
  std::vector<std::size_t> order(items.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return key(items[a]) < key(items[b]); });
  return order;
}

/// Sorting finds repeated names in bounded time whatever the names are; a hash table would not.
template <typename T, typename F>
void require_distinct(const std::vector<T>& items, F name, ErrorCode code, std::string_view where) {
  const std::vector<std::size_t> order = sorted_positions(items, name);
  for (std::size_t i = 1; i < order.size(); ++i) {
    const std::string_view text = name(items[order[i]]);
    if (text == name(items[order[i - 1]])) fail(code, "{}: the key {} is there twice", where, quoted(text));
  }
}

}  // namespace kvzip
