// SPDX-License-Identifier: Apache-2.0
// The header of a NumPy array (numpy.lib.format, versions 1 to 3): a magic number, a version, a length, and a Python
// dictionary of the type, the order and the shape.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kvzip/dump.hpp"

namespace kvzip {

inline constexpr std::string_view kNumpyMagic{"\x93NUMPY", 6};
/// Attribute of a tensor of bytes: the dictionary of an array whose elements are of no type of a dump.
inline constexpr std::string_view kNumpyAttribute = "numpy.header";

struct NumpyArray {
  std::string text;            // the dictionary
  std::string type;            // its type: "<f2"; empty for a type with fields
  std::optional<DType> dtype;  // what that is in a dump, if anything
  std::vector<std::uint64_t> shape;
  bool reversed = false;  // of the other byte order
  bool fortran = false;   // the first axis is the one whose elements are neighbours
  std::size_t begin = 0;  // bytes before the elements
};

/// Bytes that say how long the header is.
inline constexpr std::size_t kNumpyStart = 12;
/// Bytes of a file of `size` up to its elements, from its first kNumpyStart bytes or all there are.
std::size_t numpy_header_bytes(ByteView start, std::uint64_t size);
/// `header` has numpy_header_bytes().
NumpyArray parse_numpy_header(ByteView header);

/// What an array from a file of this name is called: the file's name without folders and .npy; "array" without .npy.
std::string numpy_tensor_name(std::string_view path);
/// The type's name in NumPy; nothing for types of less than a byte. Types that NumPy does not have are raw bytes.
std::optional<std::string_view> numpy_type(DType dtype);
/// numpy_type() does not tell it apart from others.
bool is_raw_in_numpy(DType dtype);
std::string numpy_header_text(std::string_view type, const std::vector<std::uint64_t>& shape);
/// Magic number, version, length and text, padded so that the elements begin at a multiple of 64.
std::string numpy_header(std::string_view text);

}  // namespace kvzip
