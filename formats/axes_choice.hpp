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

/// What the dump says of the model's shape, and of how many tokens it holds; 0 = unknown.
struct ModelFacts {
  std::uint64_t layers = 0, heads = 0, kv_heads = 0, head_dim = 0, tokens = 0;
};

/// Empty when `text` are axes that keys and values can have, else what is wrong with it.
std::string axes_problem(std::string_view text);
/// Empty when a tensor of this shape can have these axes, else why not.
std::string fit_problem(const Axes& axes, const std::vector<std::uint64_t>& shape);

/// `axes` is empty when none was chosen; `why` then names the reason, else the source of the choice.
struct AxesChoice {
  Axes axes;
  std::string why;
  Hint hint = Hint::none;        // what would settle it where nothing was chosen
  std::vector<Axes> readings{};  // where several fit and none is taken
  bool firm = false;             // the dump says so itself; otherwise it is what such a name stands for
  std::vector<Axes> rivals{};    // of axes that are not firm: others that the shape allows as well
};
/// Picks the axes that the name's family implies, or, where the dump rules those out, the order that it confirms.
/// Where two orders fit equally well, none is chosen.
AxesChoice choose_axes(const NameReading& reading, const std::vector<std::uint64_t>& shape, const ModelFacts& facts);

/// The same axes with those of heads and tokens exchanged; none without both.
Axes heads_for_tokens(const Axes& axes);
/// Axes with tokens to the left or right of heads are both in use for such a tensor.
bool either_order_in_use(const NameReading& reading, const Axes& axes, const std::vector<std::uint64_t>& shape);
/// "200 heads of 2 tokens": what these axes would make of a shape.
std::string extents_text(const Axes& axes, const std::vector<std::uint64_t>& shape);

}  // namespace kvzip
