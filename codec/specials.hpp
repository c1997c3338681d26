// SPDX-License-Identifier: Apache-2.0
// Values that no stage sees: NaN, infinities and what is beyond float. Layout in man/kvz.5, "Special values".
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "kvzip/dtype.hpp"

namespace kvzip {

/// Places (gaps as varints) and element bytes.
Bytes specials_bytes(const std::vector<std::size_t>& at, ByteView elements, std::size_t unit);
/// Puts them back. `body` is hostile.
void restore_specials(ByteView body, std::size_t unit, std::span<std::byte> elements);

}  // namespace kvzip
