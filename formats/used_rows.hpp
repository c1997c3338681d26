// SPDX-License-Identifier: Apache-2.0
// Static caches and buffers have more rows than tokens: those behind the last are zero.
#pragma once

#include <cstdint>
#include <span>

#include "kvzip/axes.hpp"
#include "kvzip/io.hpp"

namespace kvzip {

/// Rows of a tensor along `axis` before the zeros at its end: none where there are only zeros, all where a row is too
/// large to look at. Reads from the end, 16 MiB at a time.
std::uint64_t used_rows(DumpReader& reader, std::size_t tensor, std::size_t axis);
/// The same of one of its sequences; `fixed` has an index for each axis outside it.
std::uint64_t used_tokens(DumpReader& reader, std::size_t tensor, const Axes& axes,
                          std::span<const std::uint64_t> fixed);

}  // namespace kvzip
