// SPDX-License-Identifier: Apache-2.0
// Version 2 B-trees (HDF5 File Format Specification 3.0, III.A.2), looked at before the library follows them: it takes
// the number of records in a node from the node above, and trusts the size of a record. Checksums are left to it.
#pragma once

#include <cstdint>
#include <functional>

#include "formats/hdf5/hdf5_raw.hpp"

namespace kvzip::hdf5 {

/// How many bytes a number takes where numbers up to `most` are stored.
std::size_t bytes_for(std::uint64_t most);

struct Tree2Form {
  std::uint64_t type = 0, record_bytes = 0;
};

/// Calls `visit` with every record, in no order. fail(corrupt) unless the tree at `address` has this form, and each
/// node as many records as are stated of it and as fit.
void walk_tree2(const RawFile& file, std::uint64_t address, const Tree2Form& form,
                const std::function<void(Cursor)>& visit);

}  // namespace kvzip::hdf5
