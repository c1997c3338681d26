// SPDX-License-Identifier: Apache-2.0
// Frames that are lost, as people and programs are told of them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "formats/kvz/kvz_header.hpp"
#include "kvzip/recover.hpp"

namespace kvzip {

/// Frames `first` to `last` - 1 of one part.
struct BrokenFrames {
  std::uint64_t first = 0, last = 0;
  std::uint64_t offset = 0;  // of the first one's record
  std::string why;
  bool gone = false;         // there is no record
  bool unsupported = false;  // it may be sound, but this build or the tables at hand do not decode it
};

class Holes {
 public:
  /// `header` must outlive the object.
  explicit Holes(const KvzHeader& header) : header_(header) {}
  /// In the order of the file. Frames of one tile group that are gone side by side become one hole.
  void add(const BrokenFrames& broken);
  KvzDamage damage() const;

 private:
  KvzHole hole_of(const BrokenFrames& broken) const;

  const KvzHeader& header_;
  std::vector<BrokenFrames> broken_;
};

}  // namespace kvzip
