// SPDX-License-Identifier: Apache-2.0
// A dump: what every tensor file is to kvzip. Named tensors in file order, and attributes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kvzip/dtype.hpp"

namespace kvzip {

struct TensorInfo {
  std::string name;  // UTF-8; for HDF5 the path without the leading '/'
  DType dtype = DType::u8;
  std::vector<std::uint64_t> shape;  // row-major; empty = scalar; a zero dimension = empty tensor

  std::uint64_t elements() const;  // fail(limit) when the product does not fit in 64 bits
  std::uint64_t bytes() const;     // fail(corrupt) when sub-byte elements do not fill whole bytes
  bool operator==(const TensorInfo&) const = default;
};

/// A piece of metadata. safetensors `__metadata__` entries are string scalars of object "".
/// HDF5 attributes keep their object, type and shape, so that they come back as they were.
struct Attribute {
  std::string object;  // "" = the file (HDF5 root group), else a group's or dataset's path without leading '/'
  std::string name;    // empty with no value: "this group exists" (an empty HDF5 group)
  std::vector<std::string> strings;  // string attribute: its values in row-major order
  std::optional<DType> dtype;        // numeric attribute: its type; no value = string attribute
  std::vector<std::uint64_t> shape;  // empty = scalar
  std::vector<std::byte> data;       // numeric attribute: little-endian values

  bool operator==(const Attribute&) const = default;
};

struct Dump {
  std::vector<TensorInfo> tensors;    // in file order
  std::vector<Attribute> attributes;  // in file order

  /// The value of a file-level attribute as text: strings as they are, numeric scalars printed; empty when absent.
  std::string text(std::string_view name) const;
};

/// A box of one tensor: start and count per dimension. For sub-byte tensors a box is a range of whole bytes of the
/// flattened data (one dimension).
struct Slice {
  std::size_t tensor = 0;
  std::vector<std::uint64_t> start, count;

  std::uint64_t elements() const;
};

/// Bytes of one element of a slice of `tensor`.
inline std::size_t slice_unit(const TensorInfo& tensor) {
  return dtype_unit(tensor.dtype);
}
/// The shape slices of this tensor are boxes of: `shape`, or {bytes} for sub-byte types.
std::vector<std::uint64_t> slice_shape(const TensorInfo& tensor);
/// Cuts a tensor into boxes of consecutive elements, each at most max_bytes (but at least one element), in order.
/// An empty tensor gives none; a scalar gives one box of no dimensions.
std::vector<Slice> split_contiguous(const TensorInfo& info, std::size_t tensor, std::uint64_t max_bytes);

/// Calls run(element_offset_in_tensor, element_offset_in_slice, elements) for each contiguous run of the box, in order.
template <typename F>
void for_each_run(const std::vector<std::uint64_t>& shape, const Slice& slice, F&& run);

}  // namespace kvzip

#include "kvzip/dump_runs.hpp"
