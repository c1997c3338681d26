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

/// Readers that show values, over one that has what stands for them (stored_blocks() in kvzip/io.hpp).
class OverBlocks {
 public:
  virtual ~OverBlocks() = default;
  virtual DumpReader& stored() = 0;
  /// A file of this format holds what is stored as it is.
  virtual bool stored_in(std::string_view format) const = 0;
  /// The tensor that shows what is stored as this one.
  virtual std::size_t shown_as(std::size_t stored) const { return stored; }
};
/// Of what a reader has stored, the tensor of its own that shows it.
std::size_t shown_as(DumpReader& reader, std::size_t stored);

}  // namespace kvzip
