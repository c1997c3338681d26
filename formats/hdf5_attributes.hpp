// SPDX-License-Identifier: Apache-2.0
// HDF5 attributes and a dump's attributes, both ways.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "formats/hdf5_library.hpp"
#include "kvzip/dump.hpp"

namespace kvzip::hdf5 {

/// The attributes of an open group or dataset, in creation order where it is tracked, else by name. Takes the bytes
/// they need in memory from `budget`.
std::vector<Attribute> read_attributes(Id object, bool by_creation, const std::string& path, std::uint64_t& budget);
void write_attribute(Id object, const Attribute& attribute);
/// fail(invalid_argument) or fail(unsupported) when write_attribute() could not take it.
void check_attribute(const Attribute& attribute);

}  // namespace kvzip::hdf5
