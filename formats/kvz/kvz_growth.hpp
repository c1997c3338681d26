// SPDX-License-Identifier: Apache-2.0
// How one container's tensors go on in another's: along their tokens.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kvzip/dump.hpp"
#include "kvzip/layout.hpp"

namespace kvzip {

/// The axis along which a tensor grows: that of tokens, or the first where it has no role. npos where it cannot.
std::size_t growing_axis(const TensorInfo& tensor, const TensorRole& role);

/// Tensor i of what is appended goes on as tensor growth[i] of the file; the others stay. fail(invalid_argument) unless
/// each has one there of its type, role, layer, axes and, but for the tokens, shape, and every key, value and query
/// grows, all of them by as many tokens.
std::vector<std::size_t> plan_growth(const Dump& file, const Recognition& roles, const Dump& more,
                                     const Recognition& roles_of_more);

/// Adds the entries of `more` along this axis; returns how many there were before. fail(limit) where that overflows.
std::uint64_t grow_tensor(TensorInfo& tensor, const TensorInfo& more, std::size_t axis);

/// The tokens of the longest keys or values; 0 where there are none.
std::uint64_t tokens_of(const Dump& dump, const Recognition& roles);

}  // namespace kvzip
