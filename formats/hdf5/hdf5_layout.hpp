// SPDX-License-Identifier: Apache-2.0
// Layout messages (HDF5 File Format Specification 3.0, IV.A.2.i), and the indexes of chunks that they lead to (VII).
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "formats/hdf5/hdf5_messages.hpp"
#include "formats/hdf5/hdf5_raw.hpp"

namespace kvzip::hdf5 {

enum class ChunkIndex : std::uint64_t { tree = 0, single = 1, implicit = 2, fixed = 3, extensible = 4, tree2 = 5 };

struct ChunkLayout {
  ChunkIndex index = ChunkIndex::tree;
  std::optional<std::uint64_t> at;    // the index, once something was written
  std::vector<std::uint64_t> extent;  // the size of an element last
};

/// Nothing, where the layout is not chunked.
std::optional<ChunkLayout> read_layout_message(Cursor in, const RawFile& file);

/// fail(corrupt) unless the index is what the library takes it for: of the chunks of a dataset of this shape, packed or
/// not. The library trusts the sizes and numbers of elements that indexes state. Checksums are left to it.
void check_chunk_index(const RawFile& file, const ChunkLayout& layout, const Space& space, bool packed);

}  // namespace kvzip::hdf5
