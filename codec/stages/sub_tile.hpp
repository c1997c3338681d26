// SPDX-License-Identifier: Apache-2.0
// Parts of a tile that a stage hands to a quantiser of its own.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "codec/side.hpp"
#include "codec/stage.hpp"

namespace kvzip {

/// `quant` with fields "name=value name=value ...".
std::shared_ptr<const Stage> nested_quant(std::string_view fields);

/// How a stage stores rows that stand for others: quantised, or with 0 bits as the stage itself does. The fields
/// `bits`, `axis`, `group` and `scale`.
class StoredRows {
 public:
  /// What the fields mean for these rows; `plain` names 0 bits.
  struct Words {
    std::string_view bits, plain, axis, group, scale;
  };
  void fields(FieldVisitor& v, const Words& words);
  void check();
  NumberFormat format() const { return format_; }

  /// Leaves in `rows` what a reader sees. pass_plain(port, rows) stores or reads them unquantised.
  template <typename PassPlain>
  void encode(Tile& rows, EncodeContext& to, PassPlain&& pass_plain) const {
    if (quant_ == nullptr) return pass_plain(to.out, rows);
    const Buffer<float> before = rows.values;
    EncodeContext nested{to.out, to.wanted};
    quant_->encode(rows, nested);
    for (std::size_t i = 0; i < before.size(); ++i) rows.values[i] = before[i] - rows.values[i];
  }
  template <typename PassPlain>
  void decode(Tile& rows, StreamReader& in, PassPlain&& pass_plain) const {
    std::fill(rows.values.begin(), rows.values.end(), 0.0f);
    if (quant_ == nullptr) return pass_plain(in, rows);
    DecodeContext nested{in};
    quant_->decode(rows, rows.shape, nested);
  }

 private:
  enum class Axis : std::uint8_t { channel, token, token_head };
  static constexpr std::array<std::string_view, 3> kAxes{"channel", "token", "token-head"};
  std::uint64_t bits_ = 0, group_ = 0;
  Axis axis_ = Axis::channel;
  NumberFormat format_ = NumberFormat::f16;
  std::shared_ptr<const Stage> quant_;
};

/// The rows of a tile as a tile of that context, and back to their places.
Tile take_rows(const Tile& tile, const TileContext& context, std::span<const std::uint32_t> rows);
void put_rows(const Tile& part, std::span<const std::uint32_t> rows, Tile& tile);
/// The same for columns; `context` has as many channels.
Tile take_columns(const Tile& tile, const TileContext& context, std::span<const std::uint32_t> cols);
void put_columns(const Tile& part, std::span<const std::uint32_t> cols, Tile& tile);

}  // namespace kvzip
