// SPDX-License-Identifier: Apache-2.0
#include "formats/used_rows.hpp"

#include <algorithm>
#include <vector>

namespace kvzip {
namespace {

constexpr std::uint64_t kMostZeroBytes = std::uint64_t{1} << 24;  // read at a time

/// True when rows [first, first + count) of a tensor are bytes of 0.
bool zero_rows(DumpReader& reader, std::size_t tensor, std::size_t axis, std::uint64_t first, std::uint64_t count) {
  const TensorInfo& info = reader.dump().tensors[tensor];
  Slice slice{tensor, std::vector<std::uint64_t>(info.shape.size(), 0), info.shape};
  slice.start[axis] = first;
  slice.count[axis] = count;
  Bytes bytes(slice.elements() * slice_unit(info));
  reader.read(slice, bytes);
  return std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; });
}

}  // namespace

std::optional<std::uint64_t> used_rows(DumpReader& reader, std::size_t tensor, std::size_t axis) {
  const TensorInfo& info = reader.dump().tensors[tensor];
  const std::uint64_t rows = info.shape[axis];
  if (rows == 0 || info.elements() == 0) return std::nullopt;
  const std::uint64_t row_bytes = info.bytes() / rows;
  if (row_bytes > kMostZeroBytes) return std::nullopt;
  std::uint64_t used = rows, step = 1;
  while (used > 0) {
    step = std::min(step, used);
    if (zero_rows(reader, tensor, axis, used - step, step)) {
      used -= step;
      step = std::min(step * 2, std::max<std::uint64_t>(1, kMostZeroBytes / row_bytes));
    } else if (step == 1) {
      return used;
    } else {
      step = (step + 1) / 2;
    }
  }
  return std::nullopt;
}

}  // namespace kvzip
