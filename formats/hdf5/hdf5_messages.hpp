// SPDX-License-Identifier: Apache-2.0
// The parts of object header messages that hold lengths; each function fails where one leads out of `in`.
#pragma once

#include <cstdint>

#include "formats/hdf5/hdf5_raw.hpp"

namespace kvzip::hdf5 {

/// fail(corrupt) when the product does not fit.
std::uint64_t multiply(std::uint64_t a, std::uint64_t b);
/// Returns the size of the type's elements.
std::uint64_t skip_type(Cursor& in);
/// Returns the number of elements.
std::uint64_t skip_space(Cursor& in);
void check_filter_message(Cursor in);
/// Returns the size of the fill value; 0 when there is none.
std::uint64_t read_fill_message(Cursor in);

}  // namespace kvzip::hdf5
