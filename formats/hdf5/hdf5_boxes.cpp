// SPDX-License-Identifier: Apache-2.0
#include "formats/hdf5/hdf5_boxes.hpp"

#include <algorithm>

namespace kvzip::hdf5 {
namespace {

using Extent = std::vector<std::uint64_t>;

std::uint64_t divide_up(std::uint64_t a, std::uint64_t b) {
  return a / b + (a % b != 0 ? 1 : 0);
}

/// The largest box of consecutive elements of `extent` within `elements`.
Extent fit(const Extent& extent, std::uint64_t elements) {
  Extent box(extent.size(), 1);
  for (std::size_t a = extent.size(); a-- > 0;) {
    box[a] = std::min(extent[a], elements);
    if (box[a] < extent[a]) break;
    elements /= box[a];
  }
  return box;
}

/// Grows a chunk by whole chunks along the last axes, within `elements`; as it is when already larger.
Extent grow(Extent cell, const Extent& shape, std::uint64_t elements) {
  for (const std::uint64_t n : cell) elements /= n;
  for (std::size_t a = cell.size(); a-- > 0 && elements > 1;) {
    const std::uint64_t times = std::min(elements, divide_up(shape[a], cell[a]));
    elements /= times;
    cell[a] = std::min(shape[a], times * cell[a]);
    if (cell[a] < shape[a]) break;
  }
  return cell;
}

}  // namespace

BoxGrid::BoxGrid(Extent shape, const Extent& chunk, std::uint64_t unit, std::uint64_t max_bytes)
    : shape_(std::move(shape)), cell_(shape_) {
  const std::size_t rank = shape_.size();
  if (std::find(shape_.begin(), shape_.end(), 0) != shape_.end()) {
    count_ = 0;
    return;
  }
  const std::uint64_t elements = std::max<std::uint64_t>(max_bytes / unit, 1);
  if (!chunk.empty()) {
    for (std::size_t a = 0; a < rank; ++a) cell_[a] = std::min(shape_[a], chunk[a]);
    cell_ = grow(std::move(cell_), shape_, elements);
  }
  box_ = fit(cell_, elements);
  for (std::size_t a = 0; a < rank; ++a) {
    cells_.push_back(divide_up(shape_[a], cell_[a]));
    boxes_.push_back((cells_[a] - 1) * divide_up(cell_[a], box_[a]) + boxes_in_cell(a, cells_[a] - 1));
    count_ *= boxes_[a];
  }
}

std::uint64_t BoxGrid::boxes_in_cell(std::size_t axis, std::uint64_t cell) const {
  return divide_up(std::min(cell_[axis], shape_[axis] - cell * cell_[axis]), box_[axis]);
}

void BoxGrid::box(std::uint64_t index, Extent& start, Extent& size) const {
  const std::size_t rank = shape_.size();
  std::vector<std::uint64_t> cell(rank);
  std::uint64_t inside = 1, right = count_;  // boxes in the cell so far; boxes per box of the axes to the right
  for (std::size_t a = 0; a < rank; ++a) {
    right /= boxes_[a];
    const std::uint64_t per_cell = inside * divide_up(cell_[a], box_[a]) * right;
    cell[a] = std::min(index / per_cell, cells_[a] - 1);
    index -= cell[a] * per_cell;
    inside *= boxes_in_cell(a, cell[a]);
  }
  start.assign(rank, 0);
  size.assign(rank, 0);
  for (std::size_t a = rank; a-- > 0;) {
    const std::uint64_t boxes = boxes_in_cell(a, cell[a]);
    const std::uint64_t offset = index % boxes * box_[a];
    index /= boxes;
    start[a] = cell[a] * cell_[a] + offset;
    size[a] = std::min({box_[a], cell_[a] - offset, shape_[a] - start[a]});
  }
}

}  // namespace kvzip::hdf5
