// SPDX-License-Identifier: Apache-2.0
// A dump presented without one of its tensors.
#pragma once

#include <cstddef>
#include <memory>

#include "kvzip/io.hpp"

namespace kvzip {

/// As select() does it, but that nothing may be left.
std::unique_ptr<DumpReader> without_tensor(std::unique_ptr<DumpReader> inner, const Recognition& recognition,
                                           std::size_t tensor);

}  // namespace kvzip
