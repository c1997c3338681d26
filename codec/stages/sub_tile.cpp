// SPDX-License-Identifier: Apache-2.0
#include "codec/stages/sub_tile.hpp"

#include <algorithm>
#include <string>

#include "codec/split.hpp"
#include "codec/stages/stages.hpp"

namespace kvzip {
namespace {

TileShape part_shape(const Tile& tile, std::size_t rows, std::size_t cols) {
  TileShape shape = tile.shape;
  shape.rows = static_cast<std::uint32_t>(rows);
  shape.cols = static_cast<std::uint32_t>(cols);
  shape.contiguous = false;
  return shape;
}

}  // namespace

std::shared_ptr<const Stage> nested_quant(std::string_view fields) {
  std::shared_ptr<Stage> quant = make_quant();
  const auto items = split(fields, ' ');
  parse_fields(*quant, "quant", items);
  quant->check();
  return quant;
}

void StoredRows::fields(FieldVisitor& v, const Words& words) {
  v.integer("bits", bits_, 0, 8, words.bits, words.plain);
  v.choice("axis", axis_, kAxes, words.axis);
  v.integer("group", group_, 0, 1u << 30, words.group, "all");
  v.choice("scale", format_, kNumberFormatNames, words.scale);
}

void StoredRows::check() {
  if (bits_ == 0) return;
  quant_ = nested_quant("bits=" + std::to_string(bits_) + " axis=" + std::string(kAxes[std::size_t(axis_)]) +
                        " group=" + (group_ == 0 ? "all" : std::to_string(group_)) +
                        " scale=" + std::string(kNumberFormatNames[std::size_t(format_)]));
}

Tile take_rows(const Tile& tile, const TileContext& context, std::span<const std::uint32_t> rows) {
  const std::size_t cols = tile.shape.cols;
  Tile part(context, part_shape(tile, rows.size(), cols));
  if (!tile.taken.empty()) part.taken.resize(part.values.size());
  for (std::size_t i = 0; i < rows.size(); ++i) {
    std::copy_n(tile.row(rows[i]), cols, part.row(i));
    if (!tile.taken.empty()) std::copy_n(tile.taken.data() + rows[i] * cols, cols, part.taken.data() + i * cols);
  }
  return part;
}

void put_rows(const Tile& part, std::span<const std::uint32_t> rows, Tile& tile) {
  for (std::size_t i = 0; i < rows.size(); ++i) std::copy_n(part.row(i), tile.shape.cols, tile.row(rows[i]));
}

Tile take_columns(const Tile& tile, const TileContext& context, std::span<const std::uint32_t> cols) {
  Tile part(context, part_shape(tile, tile.shape.rows, cols.size()));
  if (!tile.taken.empty()) part.taken.resize(part.values.size());
  for (std::size_t r = 0; r < tile.shape.rows; ++r) {
    for (std::size_t i = 0; i < cols.size(); ++i) {
      part.row(r)[i] = tile.row(r)[cols[i]];
      if (!tile.taken.empty()) part.taken[r * cols.size() + i] = tile.taken[r * tile.shape.cols + cols[i]];
    }
  }
  return part;
}

void put_columns(const Tile& part, std::span<const std::uint32_t> cols, Tile& tile) {
  for (std::size_t r = 0; r < tile.shape.rows; ++r) {
    for (std::size_t i = 0; i < cols.size(); ++i) tile.row(r)[cols[i]] = part.row(r)[i];
  }
}

}  // namespace kvzip
