// SPDX-License-Identifier: Apache-2.0
// Parts of a tile that a stage hands to a quantiser of its own.
#pragma once

#include <memory>
#include <span>
#include <string_view>

#include "codec/stage.hpp"

namespace kvzip {

/// `quant` with fields "name=value name=value ...".
std::shared_ptr<const Stage> nested_quant(std::string_view fields);

/// The rows of a tile as a tile of that context, and back to their places.
Tile take_rows(const Tile& tile, const TileContext& context, std::span<const std::uint32_t> rows);
void put_rows(const Tile& part, std::span<const std::uint32_t> rows, Tile& tile);
/// The same for columns; `context` has as many channels.
Tile take_columns(const Tile& tile, const TileContext& context, std::span<const std::uint32_t> cols);
void put_columns(const Tile& part, std::span<const std::uint32_t> cols, Tile& tile);

}  // namespace kvzip
