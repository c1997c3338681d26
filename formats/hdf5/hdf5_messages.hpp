// SPDX-License-Identifier: Apache-2.0
// The parts of object header messages that hold lengths; each function fails where one leads out of `in`.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "formats/hdf5/hdf5_raw.hpp"

namespace kvzip::hdf5 {

/// fail(corrupt) when the product does not fit.
std::uint64_t multiply(std::uint64_t a, std::uint64_t b);
/// Returns the size of the type's elements.
std::uint64_t skip_type(Cursor& in);
struct Space {
  std::vector<std::uint64_t> extent, most;  // most: 2^64 - 1 where there is no limit
  std::uint64_t elements = 0;
};
Space read_space(Cursor& in);
/// Returns the number of filters.
std::uint64_t check_filter_message(Cursor in);
/// Nothing when it is undefined; fail(corrupt) when it leads out of the file. From an address close to 2^64 the
/// library's cache of metadata reads before its buffer.
std::optional<std::uint64_t> read_address(Cursor& in, const RawFile& file);
/// Returns the size of the fill value; 0 when there is none.
std::uint64_t read_fill_message(Cursor in);

}  // namespace kvzip::hdf5
