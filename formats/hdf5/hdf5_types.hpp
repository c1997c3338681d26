// SPDX-License-Identifier: Apache-2.0
// HDF5 datatypes and element types, both ways.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "formats/hdf5/hdf5_library.hpp"
#include "kvzip/dtype.hpp"

namespace kvzip::hdf5 {

/// What the bits of an HDF5 type are.
struct ElementType {
  std::optional<DType> dtype;  // absent for opaque bytes, which only an attribute can name
  std::size_t size = 0;
  std::size_t swap = 1;    // bytes of the big-endian pieces that are to be reversed; 1 = none
  bool bits_only = false;  // opaque or an integer: an attribute may say that it holds another type's bits
};

/// Absent for types a dump cannot hold.
std::optional<ElementType> read_type(Id type);
/// For messages: "variable-length string", "compound", ...
std::string describe_type(Id type);
/// The type written for `dtype`; unsigned bytes for those that HDF5 cannot express.
Handle make_type(DType dtype);
/// True when make_type() does not say what the bits are, or other readers would convert them wrongly.
bool needs_name(DType dtype);
/// True of types that h5py lacks, whose bits programs keep in integers beside an attribute that names the type.
bool is_bits_elsewhere(DType dtype);
/// An element type as attributes name it: "BF16", "bfloat16", "torch.float8_e4m3fn", ...
std::optional<DType> parse_type_name(std::string_view name);

void swap_bytes(std::span<std::byte> data, std::size_t width);

}  // namespace kvzip::hdf5
