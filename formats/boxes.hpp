// SPDX-License-Identifier: Apache-2.0
// Overlap of boxes of one tensor.
#pragma once

#include <algorithm>
#include <cstring>
#include <optional>

#include "kvzip/dump.hpp"
#include "kvzip/io.hpp"

namespace kvzip {

/// The common part of two slices of the same tensor; no value when they share nothing.
inline std::optional<Slice> intersect(const Slice& a, const Slice& b) {
  if (a.tensor != b.tensor) return std::nullopt;
  Slice common = a;
  for (std::size_t i = 0; i < a.start.size(); ++i) {
    const std::uint64_t begin = std::max(a.start[i], b.start[i]);
    const std::uint64_t end = std::min(a.start[i] + a.count[i], b.start[i] + b.count[i]);
    if (begin >= end) return std::nullopt;
    common.start[i] = begin;
    common.count[i] = end - begin;
  }
  return common;
}

/// The slice `inner`, seen from the corner of `outer`, which holds it.
inline Slice relative(const Slice& inner, const Slice& outer) {
  Slice r = inner;
  for (std::size_t i = 0; i < r.start.size(); ++i) r.start[i] -= outer.start[i];
  return r;
}

/// Copies the elements of `box` from the data of slice `from` to the data of slice `to`; both hold it.
inline void copy_box(const Slice& box, std::size_t unit, const Slice& from, ByteView source, const Slice& to,
                     std::span<std::byte> target) {
  std::vector<std::pair<std::uint64_t, std::uint64_t>> runs;  // element offsets in box order, and lengths
  for_each_run(from.count, relative(box, from),
               [&](std::uint64_t at, std::uint64_t, std::uint64_t n) { runs.emplace_back(at, n); });
  std::size_t run = 0;
  std::uint64_t used = 0;
  for_each_run(to.count, relative(box, to), [&](std::uint64_t at, std::uint64_t, std::uint64_t n) {
    while (n > 0) {
      const std::uint64_t step = std::min(n, runs[run].second - used);
      std::memcpy(target.data() + at * unit, source.data() + (runs[run].first + used) * unit, step * unit);
      at += step;
      n -= step;
      used += step;
      if (used == runs[run].second) ++run, used = 0;
    }
  });
}

}  // namespace kvzip
