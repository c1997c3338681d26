// SPDX-License-Identifier: Apache-2.0
// Tensors in blocks of ggml: bytes as they were stored, or the values that they stand for.
#pragma once

#include <cstddef>
#include <memory>
#include <string_view>
#include <unordered_map>

#include "formats/ggml_types.hpp"
#include "kvzip/io.hpp"

namespace kvzip {

inline constexpr std::string_view kGgmlAttribute = "ggml_type";  // of a tensor: the name of its type

/// Tensors of bytes, rows of whole blocks, that say their type, by index.
std::unordered_map<std::size_t, const GgmlType*> ggml_blocks(const Dump& dump);

/// Blocks as F32; a reader that has none is given back as it is.
std::unique_ptr<DumpReader> ggml_values(std::unique_ptr<DumpReader> reader);

/// Readers that show values, over one that has what stands for them.
class OverBlocks {
 public:
  virtual ~OverBlocks() = default;
  virtual DumpReader& stored() = 0;
  /// A file of this format holds what is stored as it is.
  virtual bool stored_in(std::string_view format) const = 0;
};
/// What is under such a reader; null for any other.
DumpReader* stored_blocks(DumpReader& reader);
/// The reader that a file of this format is to be written from: where the format holds blocks, the one under values.
DumpReader& reader_for(std::string_view format, DumpReader& reader);

}  // namespace kvzip
