// SPDX-License-Identifier: Apache-2.0
// The one bounded pipeline that parts go through: fetched in order, visited on any thread, merged in order.
#pragma once

#include <cstdint>
#include <functional>
#include <utility>

#include "kvzip/io.hpp"

namespace kvzip {

struct Walk {
  std::uint64_t parts = 0;
  /// One caller at a time, ascending. `part` is one that went through before: its arrays are room to use again.
  std::function<void(Part& part, std::uint64_t index)> fetch;
  std::function<void(Part& part)> visit;  // any thread
  std::function<void(Part& part)> merge;  // one caller at a time, ascending
  std::uint64_t part_bytes = 0;           // memory that the largest part takes in all steps, about
  bool again = false;                     // a part that was not merged can be fetched once more
};
/// Takes every part through the three steps, at most 2 * threads of them at a time (threads: 0 = all). Where memory
/// runs out before a part is merged, half as many threads go on, in the end one, and parts that were not merged are
/// visited again, as they were fetched; so a visit changes its part and nothing else. Not where it runs out in a merge,
/// or in a fetch that cannot be done again: that fails. The first part in order that fails decides which error is
/// thrown, whatever the threads did; all parts before it are merged, none after.
void walk(const Walk& steps, unsigned threads);

/// Parts that someone other than the reader has made, read by random access.
struct PartList {
  std::uint64_t count = 0;
  std::function<Part(std::uint64_t at)> part;  // the part at a place of the list; its index is its maker's own
};
/// for_each_part() of other parts than the reader's own.
void for_each_part(DumpReader& reader, const PartList& parts, const PartStep& visit, const PartStep& merge,
                   unsigned threads, const Progress& progress = {});

}  // namespace kvzip
