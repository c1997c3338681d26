// SPDX-License-Identifier: Apache-2.0
#include "formats/used_rows.hpp"

#include <algorithm>
#include <vector>

namespace kvzip {
namespace {

constexpr std::uint64_t kMostZeroBytes = std::uint64_t{1} << 24;  // read at a time

bool is_zero(DumpReader& reader, const Slice& box) {
  Bytes bytes(box.elements() * slice_unit(reader.dump().tensors[box.tensor]));
  reader.read(box, bytes);
  return std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; });
}

Slice whole(DumpReader& reader, std::size_t tensor) {
  const std::vector<std::uint64_t>& shape = reader.dump().tensors[tensor].shape;
  return {tensor, std::vector<std::uint64_t>(shape.size(), 0), shape};
}

std::uint64_t rows_of_box(DumpReader& reader, Slice box, std::size_t axis) {
  const std::uint64_t first = box.start[axis], rows = box.count[axis];
  if (box.elements() == 0) return 0;
  const std::uint64_t row_bytes = box.elements() / rows * slice_unit(reader.dump().tensors[box.tensor]);
  if (row_bytes > kMostZeroBytes) return rows;
  std::uint64_t used = rows, step = 1;
  while (used > 0) {
    step = std::min(step, used);
    box.start[axis] = first + used - step, box.count[axis] = step;
    if (is_zero(reader, box)) {
      used -= step;
      step = std::min(step * 2, std::max<std::uint64_t>(1, kMostZeroBytes / row_bytes));
    } else if (step == 1) {
      break;
    } else {
      step = (step + 1) / 2;
    }
  }
  return used;
}

}  // namespace

std::uint64_t used_rows(DumpReader& reader, std::size_t tensor, std::size_t axis) {
  return rows_of_box(reader, whole(reader, tensor), axis);
}

std::uint64_t used_tokens(DumpReader& reader, std::size_t tensor, const Axes& axes,
                          std::span<const std::uint64_t> fixed) {
  Slice box = whole(reader, tensor);
  for (std::size_t a = 0; a < fixed.size(); ++a) {
    if (!Axes::is_inside(axes[a])) box.start[a] = fixed[a], box.count[a] = 1;
  }
  return rows_of_box(reader, std::move(box), axes.find('T'));
}

}  // namespace kvzip
