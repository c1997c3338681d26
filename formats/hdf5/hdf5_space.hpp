// SPDX-License-Identifier: Apache-2.0
// Shapes and slices as HDF5 dataspaces.
#pragma once

#include <cstdint>
#include <vector>

#include "formats/hdf5/hdf5_library.hpp"
#include "kvzip/dump.hpp"

namespace kvzip::hdf5 {

/// The shape of a dataspace; fail() when it has none.
std::vector<std::uint64_t> read_shape(Id space);
/// A dataspace of this shape; empty = scalar.
Handle make_space(const std::vector<std::uint64_t>& shape);
/// Selects the slice in a dataset's space and returns the space of a dense buffer of its elements.
Handle select_slice(Id space, const Slice& slice, ErrorCode code);

}  // namespace kvzip::hdf5
