// SPDX-License-Identifier: Apache-2.0
// Groups as HDF5 before 1.8 makes them, and later releases unless told to be newer.
#pragma once

#include <cstdint>

#include "formats/hdf5/hdf5_raw.hpp"

namespace kvzip::hdf5 {

/// fail(corrupt) unless the tree of a group (HDF5 File Format Specification 3.0, III.A.1), its symbols (III.B) and the
/// heap of its names (III.D) are what the library takes them for.
void check_old_group(const RawFile& file, std::uint64_t tree, std::uint64_t heap);

}  // namespace kvzip::hdf5
