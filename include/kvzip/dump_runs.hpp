// SPDX-License-Identifier: Apache-2.0
// for_each_run: how a box of a row-major tensor falls into contiguous runs.
#pragma once

#include "kvzip/dump.hpp"

namespace kvzip {

template <typename F>
void for_each_run(const std::vector<std::uint64_t>& shape, const Slice& slice, F&& run) {
  const std::size_t rank = shape.size();
  for (const std::uint64_t n : slice.count) {
    if (n == 0) return;
  }
  // Trailing dimensions that the box covers whole merge into one run with the dimension before them.
  std::size_t run_axis = rank;
  std::uint64_t run_length = 1;
  while (run_axis > 0) {
    --run_axis;
    run_length *= slice.count[run_axis];
    if (slice.count[run_axis] != shape[run_axis]) break;
  }
  std::vector<std::uint64_t> stride(rank, 1);
  for (std::size_t a = rank; a-- > 1;) stride[a - 1] = stride[a] * shape[a];
  std::uint64_t offset = 0;
  for (std::size_t a = 0; a < rank; ++a) offset += slice.start[a] * stride[a];
  std::vector<std::uint64_t> at(run_axis, 0);
  for (std::uint64_t done = 0;; done += run_length) {
    run(offset, done, run_length);
    std::size_t a = run_axis;
    for (;;) {
      if (a == 0) return;
      --a;
      offset += stride[a];
      if (++at[a] < slice.count[a]) break;
      offset -= stride[a] * slice.count[a];
      at[a] = 0;
    }
  }
}

}  // namespace kvzip
