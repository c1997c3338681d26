// SPDX-License-Identifier: Apache-2.0
// What the parameters of a dataset's filter say.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kvzip/tile_codec.hpp"

namespace kvzip::h5z {

struct Settings {
  TileFormat format;                 // heads: all axes but those of tokens and of channels
  std::vector<std::uint64_t> shape;  // of a chunk
  std::size_t token_axis = 0;        // the channels are the last
  std::string pipeline;              // of the settings, or of their preset's rule

  std::uint64_t tokens() const { return shape[token_axis]; }
};

/// fail(invalid_argument) for words that are not known, missing or contradict each other, fail(limit) for sizes.
Settings parse_settings(std::string_view text);
/// Of parameters as HDF5 keeps them.
Settings parse_settings(std::span<const unsigned> parameters);

}  // namespace kvzip::h5z
