// SPDX-License-Identifier: Apache-2.0
// Chunks of HDF5 datasets, coded as tiles: what the filter plugin does. man/kvz.5, THE HDF5 FILTER.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "kvzip/dtype.hpp"

namespace kvzip::h5z {

/// Of those that are for use without registration at the HDF Group.
inline constexpr int kFilterId = 49374;

/// What HDF5 says of a dataset that is to have the filter.
struct Dataset {
  std::vector<std::uint64_t> chunk;
  std::size_t element_bytes = 0;
  bool little_endian = true;
  std::optional<std::size_t> exponent_bits;  // of floats; integers hold the bits of any type
};

/// fail(invalid_argument) or fail(limit) where no chunk could be coded with settings of this text.
void check_settings(std::string_view text);
/// The same, and where the dataset is not what the settings say.
void check_dataset(std::span<const unsigned> parameters, const Dataset& dataset);

/// `parameters`: the filter's, as HDF5 keeps them: the text of the settings, four bytes in each. `chunk`: a whole one.
/// fail(invalid_argument) when the settings make no sense or do not go with the chunk.
Bytes encode_chunk(std::span<const unsigned> parameters, ByteView chunk);
/// How long a chunk is that has these settings. fail(truncated) where `coded` is too short for so many values: memory
/// is taken only for what the bytes present have earned.
std::size_t chunk_bytes(std::span<const unsigned> parameters, ByteView coded);
/// Fills `chunk`, of so many bytes. `coded` may be hostile: fails with corrupt, truncated, unsupported or limit.
void decode_chunk(std::span<const unsigned> parameters, ByteView coded, std::span<std::byte> chunk);

}  // namespace kvzip::h5z
