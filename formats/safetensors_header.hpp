// SPDX-License-Identifier: Apache-2.0
// The JSON header of a safetensors file.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kvzip/dump.hpp"

namespace kvzip {

struct SafetensorsHeader {
  Dump dump;                          // tensors in the order of their keys
  std::vector<std::uint64_t> begins;  // per tensor, counted from the start of the data
};

/// Checks everything that the specification demands, against the length of the data that follows the header.
SafetensorsHeader parse_safetensors_header(std::string_view json, std::uint64_t data_bytes);

/// Where the last tensor ends in that data.
std::uint64_t safetensors_data_bytes(std::string_view json);

/// The header's text, padded with spaces to a multiple of 8 bytes, for data that lies in the order of dump.tensors.
std::string safetensors_header_text(const Dump& dump);

}  // namespace kvzip
