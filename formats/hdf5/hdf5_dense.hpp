// SPDX-License-Identifier: Apache-2.0
// Links or attributes that are not in their object's header (HDF5 File Format Specification 3.0, IV.A.2.c and .v).
#pragma once

#include <cstdint>
#include <functional>
#include <optional>

#include "formats/hdf5/hdf5_raw.hpp"

namespace kvzip::hdf5 {

struct Dense {
  bool attributes = false;
  std::uint64_t heap = 0, names = 0;
  std::optional<std::uint64_t> order;  // the tree by creation, where there is one
};

/// Calls `visit` with each link or attribute message. fail(corrupt) where the heap or a tree is not what the library
/// takes it for.
void check_dense(const RawFile& file, const Dense& dense, const std::function<void(Cursor)>& visit);

}  // namespace kvzip::hdf5
