// SPDX-License-Identifier: Apache-2.0
// Values as a shorter float type, plain (as serving engines' FP8 caches do: beyond the range is the largest finite
// value) or scaled so that the largest magnitude of a token or tile meets the type's largest value.
#include <algorithm>
#include <array>
#include <cmath>

#include "codec/side.hpp"
#include "codec/stages/stages.hpp"

namespace kvzip {
namespace {

enum class To : std::uint8_t { e4m3, e5m2, f16, bf16, f32 };
enum class Scaled : std::uint8_t { none, token, tile };

class Cast final : public Stage {
 public:
  StageKind kind() const override { return StageKind::additive; }

  void fields(FieldVisitor& v) override {
    static constexpr std::array<std::string_view, 5> kTypes{"e4m3", "e5m2", "f16", "bf16", "f32"};
    static constexpr std::array<std::string_view, 3> kScaled{"none", "token", "tile"};
    v.choice("to", to_, kTypes, "type of the stored values");
    v.choice("scale", scaled_, kScaled, "what shares a scale");
  }

  void encode(Tile& tile, StreamWriter& out) const override {
    const std::uint32_t bands = band_count(tile.shape);
    std::vector<float> scale(bands, 1.0f);
    if (scaled_ != Scaled::none) {
      std::fill(scale.begin(), scale.end(), 0.0f);
      for (std::size_t r = 0; r < tile.shape.rows; ++r) {
        float& s = scale[bands == 1 ? 0 : r];
        for (std::size_t c = 0; c < tile.shape.cols; ++c)
          s = std::max(s, std::fabs(tile.row(r)[c]) / dtype_max(type()));
      }
      put_numbers(out, StreamLabel::scales, scale, bands, 1, NumberFormat::f32, tile.context->source);
    }
    std::vector<float> scaled(tile.values.size());
    for (std::size_t i = 0; i < scaled.size(); ++i) {
      const float s = scale[bands == 1 ? 0 : i / tile.shape.cols];
      scaled[i] = s == 0 ? 0 : tile.values[i] / s;
    }
    Stream codes = source_stream(StreamLabel::codes, scaled, tile.shape.rows, tile.shape.cols, type());
    codes.head_dim = tile.context->head_dim;
    to_float(type(), std::as_bytes(std::span(codes.data)), scaled);
    std::vector<float> approximation(tile.shape.cols);
    for (std::size_t r = 0; r < tile.shape.rows; ++r) {
      for (std::size_t c = 0; c < tile.shape.cols; ++c) {
        approximation[c] = scaled[r * tile.shape.cols + c] * scale[bands == 1 ? 0 : r];
      }
      tile.subtract_row(r, approximation);
    }
    out.put(std::move(codes));
  }

  void decode(Tile& tile, TileShape in, StreamReader& streams) const override {
    const std::uint32_t bands = band_count(in);
    std::vector<float> scale(bands, 1.0f);
    if (scaled_ != Scaled::none) {
      scale = get_numbers(streams, StreamLabel::scales, bands, 1, NumberFormat::f32, tile.context->source);
    }
    Stream codes;
    codes.type = StreamType::elements;
    codes.rows = in.rows;
    codes.cols = in.cols;
    codes.width = static_cast<std::uint32_t>(dtype_unit(type()));
    codes.head_dim = tile.context->head_dim;
    streams.get(codes);
    std::vector<float> values(codes.count());
    to_float(type(), std::as_bytes(std::span(codes.data)), values);
    for (std::size_t i = 0; i < values.size(); ++i) tile.values[i] += values[i] * scale[bands == 1 ? 0 : i / in.cols];
  }

 private:
  std::uint32_t band_count(TileShape shape) const { return scaled_ == Scaled::token ? std::max(1u, shape.rows) : 1; }
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
