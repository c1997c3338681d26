// SPDX-License-Identifier: Apache-2.0
// How a dataset is cut into boxes for reading, so that each HDF5 chunk is unpacked about once.
#pragma once

#include <cstdint>
#include <vector>

namespace kvzip::hdf5 {

/// The dataset is a grid of cells (runs of whole chunks), and each cell a grid of boxes; both in row-major order.
/// A cell is one box unless its chunk is larger than a box may be.
class BoxGrid {
 public:
  /// `chunk` is empty for a dataset without chunks. `max_bytes` bounds a box, but a box holds at least one element.
  BoxGrid(std::vector<std::uint64_t> shape, const std::vector<std::uint64_t>& chunk, std::uint64_t unit,
          std::uint64_t max_bytes);

  std::uint64_t count() const { return count_; }  // 0 when the dataset is empty, 1 when it is a scalar
  void box(std::uint64_t index, std::vector<std::uint64_t>& start, std::vector<std::uint64_t>& size) const;

 private:
  std::uint64_t boxes_in_cell(std::size_t axis, std::uint64_t cell) const;

  std::vector<std::uint64_t> shape_, cell_, box_, cells_, boxes_;  // boxes_: along the whole axis
  std::uint64_t count_ = 1;
};

}  // namespace kvzip::hdf5
