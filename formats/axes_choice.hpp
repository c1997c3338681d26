// SPDX-License-Identifier: Apache-2.0
// Which axes a tensor of a given name and shape has.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "formats/name_patterns.hpp"
#include "kvzip/axes.hpp"

namespace kvzip {

/// What the metadata says of the model's shape; 0 = unknown.
struct ModelFacts {
  std::uint64_t layers = 0, heads = 0, kv_heads = 0, head_dim = 0;
};

/// Empty when `text` are axes that keys and values can have, else what is wrong with it.
std::string axes_problem(std::string_view text);
/// Empty when a tensor of this shape can have these axes, else why not.
std::string fit_problem(const Axes& axes, const std::vector<std::uint64_t>& shape);

/// `axes` is empty when none was chosen; `why` then names the reason and the remedy, else the source of the choice.
struct AxesChoice {
  Axes axes;
  std::string why;
  Hint hint = Hint::none;  // what would settle it where nothing was chosen
};
/// Picks the axes that the name's family implies, or, where the metadata rules those out, the order that it confirms.
AxesChoice choose_axes(const NameReading& reading, const std::vector<std::uint64_t>& shape, const ModelFacts& facts);

}  // namespace kvzip
