// SPDX-License-Identifier: Apache-2.0
// Eigen, included before any other header of it.
#pragma once

// A copy of Eigen of our own: its sizes of caches are one static object of the program (see fix_order_of_sums), which
// belongs to whoever else uses Eigen there.
#define Eigen kvzip_eigen
#include <Eigen/Core>

namespace kvzip {

/// Eigen cuts products, and so orders their sums, by the sizes of the machine's caches. These stand for all machines,
/// so that encoded bytes do not depend on where they are made.
inline void fix_order_of_sums() {
  [[maybe_unused]] static const bool once = [] {
    Eigen::setCpuCacheSizes(32 << 10, 512 << 10, 4 << 20);
    return true;
  }();
}

}  // namespace kvzip
