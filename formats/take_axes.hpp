// SPDX-License-Identifier: Apache-2.0
// What becomes of a tensor whose values have settled its axes.
#pragma once

#include <cstddef>
#include <string_view>

#include "kvzip/axes.hpp"
#include "kvzip/layout.hpp"

namespace kvzip {

/// The tensor is what its name says, with these axes; `how` says how they are known.
void take_axes(const Dump& dump, std::size_t tensor, const Axes& axes, std::string_view how, Recognition& recognition);

}  // namespace kvzip
