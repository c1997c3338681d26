// SPDX-License-Identifier: Apache-2.0
// What a source holds beyond the dump that is made of it.
#pragma once

#include <string>
#include <vector>

#include "kvzip/io.hpp"

namespace kvzip {

/// Readers that may leave something out, or that stand before such.
class LeavesOut {
 public:
  virtual ~LeavesOut() = default;
  /// Each with its name and why.
  virtual std::vector<std::string> left_out() const = 0;
};

/// What `reader` has neither as tensors nor as attributes, though its source holds it.
inline std::vector<std::string> left_out_of(const DumpReader& reader) {
  const auto* leaves = dynamic_cast<const LeavesOut*>(&reader);
  return leaves == nullptr ? std::vector<std::string>() : leaves->left_out();
}

}  // namespace kvzip
