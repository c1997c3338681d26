// SPDX-License-Identifier: Apache-2.0
// Fractal heaps (HDF5 File Format Specification 3.0, III.G), where links and attributes lie when there are many: looked
// at before the library follows them. It trusts the places that heap IDs and blocks state. Checksums are left to it.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "formats/hdf5/hdf5_raw.hpp"

namespace kvzip::hdf5 {

class FractalHeap {
 public:
  using Visit = std::function<void(Cursor)>;
  /// fail(corrupt) unless there is a heap at `address` whose IDs have this many bytes, at most 8.
  FractalHeap(const RawFile& file, std::uint64_t address, std::uint64_t id_bytes);
  /// Calls `visit` with the object of each ID, in no order. fail(corrupt) where one leads out of the heap, or two to
  /// the same bytes.
  void each(const std::vector<std::uint64_t>& ids, const Visit& visit) const;

 private:
  struct Object {
    std::uint64_t offset = 0, bytes = 0;
  };
  using Objects = std::span<const Object>;

  void read_table(Cursor& in);
  void managed(std::vector<Object> objects, const Visit& visit) const;
  void rows(std::uint64_t at, std::uint64_t first, std::uint64_t count, Objects objects, const Visit& visit) const;
  void block(std::uint64_t at, std::uint64_t first, std::uint64_t bytes, Objects objects, const Visit& visit) const;
  void check_block(Cursor& in, std::uint64_t signature, std::uint64_t first) const;
  void huge(std::vector<std::uint64_t> ids, const Visit& visit) const;

  const RawFile& file_;
  const std::uint64_t address_, id_bytes_;
  std::uint64_t offset_bytes_ = 0, length_bytes_ = 0, block_head_ = 0;
  std::uint64_t huge_tree_ = 0;
  // Exponents of 2: blocks of the first row, the whole first row, the largest blocks with objects.
  std::uint64_t start_bits_ = 0, row_bits_ = 0, direct_bits_ = 0;
  std::uint64_t root_ = 0, root_rows_ = 0;  // no rows: the root is a block with objects
};

}  // namespace kvzip::hdf5
