// SPDX-License-Identifier: Apache-2.0
// Axis letters: their rules, and which of them a tensor of a given name and shape has.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "formats/name_patterns.hpp"

namespace kvzip {

/// What the metadata says of the model's shape; 0 = unknown.
struct ModelFacts {
  std::uint64_t layers = 0, heads = 0, kv_heads = 0, head_dim = 0;
};

/// Empty when `axes` follows the rules of TensorRole, else what is wrong with it.
std::string axes_problem(std::string_view axes);
/// Empty when a tensor of this shape can have these (valid) axes, else why not.
std::string fit_problem(std::string_view axes, const std::vector<std::uint64_t>& shape);

/// `axes` is empty when none was chosen; `why` then names the reason and the remedy, else the source of the choice.
struct AxesChoice {
  std::string axes, why;
  Hint hint = Hint::none;  // what would settle it where nothing was chosen
};
/// Picks the axes that the name's family implies, or, where the metadata rules those out, the order that it confirms.
AxesChoice choose_axes(const NameReading& reading, const std::vector<std::uint64_t>& shape, const ModelFacts& facts);

}  // namespace kvzip
