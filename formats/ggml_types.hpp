// SPDX-License-Identifier: Apache-2.0
// Element types of ggml that a cache of llama.cpp can have, and what their blocks stand for.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "kvzip/dtype.hpp"

namespace kvzip {

inline constexpr std::size_t kGgmlBlock = 32;

struct GgmlType {
  std::int32_t code = 0;  // as files have it
  std::string_view name;
  DType dtype = DType::f32;  // of the values
  std::size_t bytes = 0;     // of an element, or of a block of 32 values
  void (*decode)(ByteView block, std::span<float, kGgmlBlock> out) = nullptr;  // of types in blocks

  std::uint64_t elements_in_row(std::uint64_t row_bytes) const {
    return row_bytes / bytes * (decode == nullptr ? 1 : kGgmlBlock);
  }
};
/// Null for a type that is not known.
const GgmlType* find_ggml_type(std::int32_t code);
const GgmlType* find_ggml_type(std::string_view name);
/// The type without blocks whose elements are these.
const GgmlType* plain_ggml_type(DType dtype);

}  // namespace kvzip
