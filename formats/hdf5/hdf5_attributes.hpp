// SPDX-License-Identifier: Apache-2.0
// HDF5 attributes and a dump's attributes, both ways.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "codec/limits.hpp"
#include "formats/hdf5/hdf5_library.hpp"
#include "formats/hdf5/hdf5_raw.hpp"
#include "kvzip/dump.hpp"

namespace kvzip::hdf5 {

class AttributeReader {
 public:
  /// Attributes that a dump cannot hold are named in `left_out`.
  AttributeReader(Heap& heap, std::vector<std::string>& left_out) : heap_(heap), left_out_(left_out) {}
  /// The attributes of an open group or dataset whose header was checked, in creation order where it is tracked, else
  /// by name.
  std::vector<Attribute> read(Id object, bool by_creation, const std::string& path);

 private:
  std::vector<std::string> names(Id object, bool by_creation);
  Attribute attribute(Id object, const std::string& name);
  void variable_strings(Id id, std::uint64_t count, Attribute& out);
  void fixed_strings(Id id, Id type, std::uint64_t count, Attribute& out);
  void numbers(Id id, Id type, std::uint64_t count, Attribute& out);
  void spend(std::uint64_t count, std::uint64_t unit);

  Heap& heap_;
  std::vector<std::string>& left_out_;
  std::uint64_t budget_ = limits::kHdf5AttributeBytes;
};

void write_attribute(Id object, const Attribute& attribute);
/// fail(invalid_argument) or fail(unsupported) when write_attribute() could not take it.
void check_attribute(const Attribute& attribute);

}  // namespace kvzip::hdf5
