// SPDX-License-Identifier: Apache-2.0
// How readers of plain tensor files cut a dump into parts, without a list of all of them: a header can claim sizes
// whose list would not fit in memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kvzip/dump.hpp"
#include "kvzip/io.hpp"

namespace kvzip {

inline constexpr std::uint64_t kPartBytes = std::uint64_t{4} << 20;

/// The boxes of split_contiguous, one at a time.
class ContiguousSplit {
 public:
  ContiguousSplit(const TensorInfo& info, std::size_t tensor, std::uint64_t max_bytes);
  std::uint64_t count() const { return count_; }
  Slice slice(std::uint64_t index) const;

 private:
  std::size_t tensor_;
  std::vector<std::uint64_t> shape_;
  std::size_t cut_ = 0;  // the axis that is cut; axes before it are taken one index at a time
  std::uint64_t step_ = 1, steps_ = 1, count_ = 0;
};

/// All tensors of a dump, each cut by ContiguousSplit into parts of one slice.
class DumpParts {
 public:
  DumpParts() = default;
  explicit DumpParts(const Dump& dump, std::uint64_t max_bytes = kPartBytes);
  std::uint64_t count() const { return first_.empty() ? 0 : first_.back(); }
  /// `dump` is the one the object was made from.
  Part part(const Dump& dump, std::uint64_t index) const;

 private:
  std::uint64_t max_bytes_ = kPartBytes;
  std::vector<std::uint64_t> first_;  // number of parts before each tensor, then of all
};

/// Bytes of a slice; fail(invalid_argument) unless it lies within its tensor.
std::uint64_t slice_bytes(const Dump& dump, const Slice& slice);
/// fail(invalid_argument) unless the slice lies within its tensor and has exactly `bytes` bytes.
void check_slice(const Dump& dump, const Slice& slice, std::uint64_t bytes);

/// The part's slices, one after the other, as reader.read() gives them.
void fetch_by_reading(DumpReader& reader, Part& part);

}  // namespace kvzip
