// SPDX-License-Identifier: Apache-2.0
// Tokens in two classes, salient ones with more bits: ZipCache (arXiv 2405.14256 section 4.3) and MiKV (arXiv
// 2402.18096). Each class is quantised by itself, so that ranges of one never meet the other's. Papers choose tokens by
// accumulated attention, head by head; here a tile's tokens are chosen for all of its heads by Tile::saliency.
#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <string>

#include "codec/fail.hpp"
#include "codec/side.hpp"
#include "codec/stages/stages.hpp"
#include "codec/stages/sub_tile.hpp"

namespace kvzip {
namespace {

enum class Axis : std::uint8_t { channel, token, token_head };
constexpr std::array<std::string_view, 3> kAxes{"channel", "token", "token-head"};

class Tiers final : public Cloned<Tiers, Stage> {
 public:
  StageKind kind() const override { return StageKind::additive; }
  bool weighs() const override { return true; }

  void fields(FieldVisitor& v) override {
    v.integer("high", high_, 0, 8, "bits of a salient token's values; exact: in the dump's type", "exact");
    v.integer("low", low_, 0, 8, "bits of the others' values; ternary: -1, 0 and 1 times the mean magnitude",
              "ternary");
    v.real("share", share_, 0, 1, "share of the tile's tokens that are salient");
    v.real("recent", recent_, 0, 1, "share of the salient ones that are the tile's last tokens, whatever they are");
    v.choice("axis", axis_, kAxes, "what shares a scale: a channel's tokens, a token's channels, those of one head");
    v.integer("group", group_, 0, 1u << 30, "tokens (channel) or channels (token, token-head) per scale", "all");
    v.choice("scale", format_, kNumberFormatNames, "format of scales and minima");
  }

  void check() override {
    if (high_ != 0) high_quant_ = quant(high_);
    low_quant_ = quant(low_);
  }

  TileShape output(const TileContext& context, TileShape in) const override {
    if (in.cols != context.channels()) fail(ErrorCode::invalid_argument, "tiers: a tile without whole heads");
    return in;
  }

  void encode(Tile& tile, EncodeContext& to) const override {
    Classes classes = choose(tile);
    Stream positions = position_stream(1, static_cast<std::uint32_t>(classes.high.size()), tile.shape.rows);
    positions.positions = classes.high;
    to.out.pass(positions);
    encode_class(tile, classes.high, high_quant_.get(), to);
    encode_class(tile, classes.low, low_quant_.get(), to);
  }

  void decode(Tile& tile, TileShape in, DecodeContext& from) const override {
    Stream positions = position_stream(1, salient(in.rows), in.rows);
    from.in.get(positions);
    const Classes classes = split(in.rows, positions.positions);
    decode_class(tile, classes.high, high_quant_.get(), from);
    decode_class(tile, classes.low, low_quant_.get(), from);
  }

 private:
  /// Rows of either class, ascending.
  struct Classes {
    std::vector<std::uint32_t> high, low;
  };

  std::uint32_t salient(std::uint32_t rows) const {
    return std::min(rows, static_cast<std::uint32_t>(std::floor(share_ * rows)));
  }

  /// The most salient rows; of equally salient ones the later.
  Classes choose(const Tile& tile) const {
    const std::uint32_t rows = tile.shape.rows, count = salient(rows);
    const auto last = static_cast<std::uint32_t>(std::floor(recent_ * count));
    std::vector<std::uint32_t> order(rows);
    for (std::uint32_t r = 0; r < rows; ++r) order[r] = rows - 1 - r;
    const std::vector<float> saliency = tile.row_saliency();
    if (!saliency.empty()) {
      std::stable_sort(order.begin() + last, order.end(),
                       [&](std::uint32_t a, std::uint32_t b) { return saliency[a] > saliency[b]; });
    }
    order.resize(count);
    std::sort(order.begin(), order.end());
    return split(rows, std::move(order));
  }
  static Classes split(std::uint32_t rows, std::vector<std::uint32_t> high) {
    Classes classes{std::move(high), {}};
    std::size_t next = 0;
    for (std::uint32_t r = 0; r < rows; ++r) {
      if (next < classes.high.size() && classes.high[next] == r) {
        ++next;
      } else {
        classes.low.push_back(r);
      }
    }
    return classes;
  }

  /// The quantiser of a class; 0 bits: three levels.
  std::shared_ptr<const Stage> quant(std::uint64_t bits) const {
    std::string text = bits == 0 ? "mode=sym levels=3 fit=mean" : "bits=" + std::to_string(bits);
    text += " axis=" + std::string(kAxes[static_cast<std::size_t>(axis_)]) + " group=";
    text += (group_ == 0 ? "all" : std::to_string(group_)) + " scale=";
    return nested_quant(text + std::string(kNumberFormatNames[static_cast<std::size_t>(format_)]));
  }

  /// Without a quantiser values stay in the dump's type.
  static void encode_class(Tile& tile, const std::vector<std::uint32_t>& rows, const Stage* quant, EncodeContext& to) {
    Tile part = take_rows(tile, *tile.context, rows);
    if (quant != nullptr) {
      EncodeContext nested{to.out, to.wanted};
      quant->encode(part, nested);
    } else {
      std::vector<float> stored(part.values.begin(), part.values.end());
      pass_source(to.out, exact_shape(part.shape), tile.context->source, stored);
      for (std::size_t i = 0; i < stored.size(); ++i) {
        const bool taken = !part.taken.empty() && part.taken[i] != 0;
        part.values[i] = taken ? 0 : part.values[i] - stored[i];
      }
    }
    if (to.wanted) put_rows(part, rows, tile);
  }

  static void decode_class(Tile& tile, const std::vector<std::uint32_t>& rows, const Stage* quant,
                           DecodeContext& from) {
    Tile part = take_rows(tile, *tile.context, rows);
    if (quant != nullptr) {
      DecodeContext nested{from.in};
      quant->decode(part, part.shape, nested);
    } else {
      std::vector<float> stored;
      pass_source(from.in, exact_shape(part.shape), tile.context->source, stored);
      for (std::size_t i = 0; i < stored.size(); ++i) part.values[i] += stored[i];
    }
    put_rows(part, rows, tile);
  }
  static NumberShape exact_shape(TileShape shape) { return {StreamLabel::exact, shape.rows, shape.cols}; }

  std::uint64_t high_ = 4, low_ = 2, group_ = 0;
  double share_ = 0.5, recent_ = 0;
  Axis axis_ = Axis::channel;
  NumberFormat format_ = NumberFormat::f16;
  std::shared_ptr<const Stage> high_quant_, low_quant_;
};

}  // namespace

std::unique_ptr<Stage> make_tiers() {
  return std::make_unique<Tiers>();
}

}  // namespace kvzip
