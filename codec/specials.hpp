// SPDX-License-Identifier: Apache-2.0
// Values that no stage sees: NaN, infinities, what is beyond float, and strays. Layout in man/kvz.5, "Special values".
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

/// Takes strays out of a tile's values, rows of `cols`, like those that are not finite, and adds their places to `at`,
/// which ascends: one of them would set the steps of all others. Not where they are many: then they are data. `largest`
/// is the largest magnitude of the values.
void take_strays(std::span<float> values, std::size_t cols, float largest, std::vector<std::size_t>& at);

}  // namespace kvzip
