// SPDX-License-Identifier: Apache-2.0
// How a dataset lies in its file where that is not in one piece of fixed length, little-endian: its chunks, the lengths
// up to which it may grow, the order of its bytes, the element that stands where nothing was written. In a dump that is
// a text attribute of the tensor, kHdf5Storage, as "chunks=1,64,64 maxshape=*,0,0 order=big fill=003c": in `maxshape`,
// 0 is an axis that cannot grow, and * one without end. Filters are not in it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "formats/hdf5/hdf5_library.hpp"
#include "kvzip/dump.hpp"

namespace kvzip::hdf5 {

struct Storage {
  std::vector<std::uint64_t> chunks;    // elements along each axis; empty = in one piece
  std::vector<std::uint64_t> maxshape;  // empty = no axis can grow
  bool big_endian = false;              // elements in the file; in dumps, none are
  Bytes fill;                           // one element, little-endian; empty = zeros, as HDF5 has it

  bool operator==(const Storage&) const = default;
};

/// Empty for what needs no words.
std::string storage_text(const Storage& storage);
/// Nothing for what storage_text() does not write.
std::optional<Storage> parse_storage(std::string_view text);
/// Of an open dataset. `chunks`: its own; `swap`: as in ElementType.
Storage read_storage(Id dataset, const std::vector<std::uint64_t>& chunks, std::size_t swap);

/// How the datasets of a dump are to lie: as their attributes say, made to fit the shapes that the tensors have now.
struct StoragePlan {
  std::vector<Storage> tensors;     // one per tensor
  std::vector<bool> stated;         // those whose attribute says it
  std::vector<std::size_t> merged;  // tensors in one piece whose chunks would take much more than their data
};
StoragePlan plan_storage(const Dump& dump);

/// Puts it into the type, little-endian, and the properties of a dataset that is to be created.
void set_storage(Id options, const Storage& storage, Id type);
/// Bytes that are to be reversed between a dump and a file whose elements are of this type; 1 = none.
std::size_t swap_of_file(Id type);
Handle make_space(const std::vector<std::uint64_t>& shape, const Storage& storage);

}  // namespace kvzip::hdf5
