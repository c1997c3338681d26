// SPDX-License-Identifier: Apache-2.0
// Bare elements: files that say nothing of their type and shape, as pages of a cache that a server keeps on a disk.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "formats/file.hpp"
#include "kvzip/axes.hpp"
#include "kvzip/io.hpp"
#include "kvzip/role.hpp"

namespace kvzip {

/// What somebody knows of such a file.
struct RawLayout {
  Role role = Role::pair;  // key, value or pair
  Axes axes;
  DType dtype = DType::f16;
  std::vector<std::optional<std::uint64_t>> extents;  // at most one is not known: that which the file's size gives
};
/// Reads "kv:2LTHD:bf16:2x32x-x8x128", in which - is what the file's size gives. fail(invalid_argument).
RawLayout parse_raw(std::string_view text);

/// The file's size, where all extents are known.
std::optional<std::uint64_t> bytes_of(const RawLayout& layout);

/// One tensor, called key_cache, value_cache or kv_cache, whose axes the dump states. fail(invalid_argument) where the
/// layout does not make the file's bytes.
/// `attributes` are the dump's, too.
std::unique_ptr<DumpReader> open_raw(InputFile file, const RawLayout& layout,
                                     const std::vector<Attribute>& attributes = {});

}  // namespace kvzip
