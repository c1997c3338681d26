// SPDX-License-Identifier: Apache-2.0
// Values as a shorter float type, plain (as serving engines' FP8 caches do: beyond the range is the largest finite
// value) or scaled so that the largest magnitude of a token or tile meets the type's largest value.
#include <algorithm>
#include <array>
#include <cmath>

#include "codec/kernels/rows.hpp"
#include "codec/side.hpp"
#include "codec/stages/stages.hpp"

namespace kvzip {
namespace {

enum class To : std::uint8_t { e4m3, e5m2, f16, bf16, f32 };
enum class Scaled : std::uint8_t { none, token, tile };

class Cast final : public Cloned<Cast, Stage> {
 public:
  StageKind kind() const override { return StageKind::additive; }
  bool begins() const override { return true; }

  void fields(FieldVisitor& v) override {
    static constexpr std::array<std::string_view, 5> kTypes{"e4m3", "e5m2", "f16", "bf16", "f32"};
    static constexpr std::array<std::string_view, 3> kScaled{"none", "token", "tile"};
    v.choice("to", to_, kTypes, "type of the stored values");
    v.choice("scale", scaled_, kScaled, "what shares a scale");
  }

  void encode(Tile& tile, EncodeContext& to) const override {
    const std::uint32_t bands = band_count(tile.shape), cols = tile.shape.cols;
    std::vector<float> scale(bands, 1.0f);
    if (scaled_ != Scaled::none) {
      std::fill(scale.begin(), scale.end(), 0.0f);
      for (std::size_t r = 0; r < tile.shape.rows; ++r) {
        float low = 0, high = 0, &s = scale[bands == 1 ? 0 : r];
        kernels::min_max(tile.row(r), cols, &low, &high);
        s = std::max(s, std::max(-low, high) / dtype_max(type()));
      }
    }
    Stream codes = pass_scale(to.out, *tile.context, tile.shape, scale);
    codes.allocate();
    std::vector<float> scaled(cols);
    for (std::size_t r = 0; r < tile.shape.rows; ++r) {
      const float s = scale[bands == 1 ? 0 : r];
      const auto elements = std::as_writable_bytes(std::span(codes.data)).subspan(r * cols * codes.width);
      const float* row = tile.row(r);
      for (std::size_t c = 0; c < cols; ++c) scaled[c] = s == 0 ? 0 : row[c] / s;
      from_float(type(), scaled, elements);
      if (!to.wanted) continue;
      to_float(type(), elements, scaled);
      for (float& v : scaled) v *= s;
      tile.subtract_row(r, scaled);
    }
    to.out.pass(codes);
  }

  void decode(Tile& tile, TileShape in, DecodeContext& from) const override {
    const std::uint32_t bands = band_count(in);
    std::vector<float> scale(bands, 1.0f);
    Stream codes = pass_scale(from.in, *tile.context, in, scale);
    from.in.get(codes);
    std::vector<float> values(in.cols);
    for (std::size_t r = 0; r < in.rows; ++r) {
      const float s = scale[bands == 1 ? 0 : r];
      float* row = tile.row(r);
      to_float(type(), std::as_bytes(std::span(codes.data)).subspan(r * in.cols * codes.width), values);
      for (std::size_t c = 0; c < in.cols; ++c) row[c] = (from.blank ? 0.0f : row[c]) + values[c] * s;
    }
  }

 private:
  std::uint32_t band_count(TileShape shape) const { return scaled_ == Scaled::token ? std::max(1u, shape.rows) : 1; }
  /// The streams: the scale of each band, then the codes, which are returned.
  Stream pass_scale(StreamPort& port, const TileContext& context, TileShape shape, std::vector<float>& scale) const {
    if (scaled_ != Scaled::none) {
      pass_numbers(port, {StreamLabel::scales, band_count(shape), 1}, NumberFormat::f32, context.source, scale);
    }
    return element_stream(StreamLabel::codes, shape.rows, shape.cols, dtype_unit(type()), context.head_dim);
  }
  DType type() const {
    static constexpr std::array kTypes{DType::f8_e4m3, DType::f8_e5m2, DType::f16, DType::bf16, DType::f32};
    return kTypes[static_cast<std::size_t>(to_)];
  }

  To to_ = To::e4m3;
  Scaled scaled_ = Scaled::none;
};

}  // namespace

std::unique_ptr<Stage> make_cast() {
  return std::make_unique<Cast>();
}

}  // namespace kvzip
