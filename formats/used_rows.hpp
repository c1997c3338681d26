// SPDX-License-Identifier: Apache-2.0
// Static caches and buffers have more rows than tokens: those behind the last are zero.
#pragma once

#include <cstdint>
#include <optional>

#include "kvzip/io.hpp"

namespace kvzip {

/// Rows along `axis` before the zeros at the end; nothing where a row is too large to look at, and where there are only
/// zeros. Reads from the end, 16 MiB at a time.
std::optional<std::uint64_t> used_rows(DumpReader& reader, std::size_t tensor, std::size_t axis);

}  // namespace kvzip
