// SPDX-License-Identifier: Apache-2.0
// What an HDF5 file holds, as a dump, and how each dataset is stored.
#pragma once

#include <cstdint>
#include <vector>

#include "formats/file.hpp"
#include "formats/hdf5/hdf5_chunks.hpp"
#include "formats/hdf5/hdf5_library.hpp"
#include "kvzip/dump.hpp"

namespace kvzip::hdf5 {

struct StoredTensor {
  std::size_t swap = 1;  // as in ElementType
  ChunkForm chunk;
  bool typed = false;  // its shape and type are those of a tensor
};

struct Contents {
  Dump dump;
  std::vector<StoredTensor> stored;   // one per tensor
  std::vector<std::string> left_out;  // what the file holds beside: names, and why
};

/// Leaves out what a dump cannot hold, and says so; fails where that leaves no tensor, and where the file states more
/// data than its size can stand for.
Contents walk(Id file, const InputFile& input);

}  // namespace kvzip::hdf5
