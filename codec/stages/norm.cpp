// SPDX-License-Identifier: Apache-2.0
// Per-channel normalisation: x = (value - mean) / scale with the numbers of each channel of the tile stored.
// `sqrt-absmax` is the channel-separable scaling of ZipCache (arXiv 2405.14256 section 4.1).
#include <array>
#include <cmath>

#include "codec/side.hpp"
#include "codec/stages/stages.hpp"

namespace kvzip {
namespace {

enum class Kind : std::uint8_t { rms, absmax, sqrt_absmax, none };
enum class Center : std::uint8_t { none, mean };

class Norm final : public Cloned<Norm, Stage> {
 public:
  StageKind kind() const override { return StageKind::transform; }

  void fields(FieldVisitor& v) override {
    static constexpr std::array<std::string_view, 4> kKinds{"rms", "absmax", "sqrt-absmax", "none"};
    static constexpr std::array<std::string_view, 2> kCenters{"none", "mean"};
    v.choice("kind", kind_, kKinds, "what a channel is divided by");
    v.choice("center", center_, kCenters, "what is subtracted from a channel first");
    v.choice("scale", format_, kNumberFormatNames, "format of the stored numbers");
  }

  TileShape output(const TileContext&, TileShape in) const override {
    in.pristine = false;
    return in;
  }

  void encode(Tile& tile, EncodeContext& to) const override {
    const std::uint32_t cols = tile.shape.cols;
    std::vector<float> mean(cols), scale(cols, 1.0f);
    if (center_ == Center::mean) {
      std::vector<double> sum(cols);
      for (std::size_t i = 0; i < tile.values.size(); ++i) sum[i % cols] += tile.values[i];
      for (std::size_t c = 0; c < cols && tile.shape.rows > 0; ++c) {
        mean[c] = static_cast<float>(sum[c] / tile.shape.rows);
      }
      pass_row(to.out, tile, mean);
    }
    if (kind_ != Kind::none) {
      measure(tile, mean, scale);
      pass_row(to.out, tile, scale);
    }
    for (std::size_t i = 0; i < tile.values.size(); ++i) {
      const float s = scale[i % cols];
      tile.values[i] = (tile.values[i] - mean[i % cols]) / (s == 0 ? 1 : s);
    }
    tile.shape.pristine = false;
  }

  void decode(Tile& tile, TileShape in, DecodeContext& from) const override {
    std::vector<float> mean(in.cols), scale(in.cols, 1.0f);
    if (center_ == Center::mean) pass_row(from.in, tile, mean);
    if (kind_ != Kind::none) pass_row(from.in, tile, scale);
    for (std::size_t i = 0; i < tile.values.size(); ++i) {
      const float s = scale[i % in.cols];
      tile.values[i] = tile.values[i] * (s == 0 ? 1 : s) + mean[i % in.cols];
    }
    tile.shape = in;
  }

 private:
  /// A number for each channel.
  void pass_row(StreamPort& port, const Tile& tile, std::vector<float>& numbers) const {
    pass_numbers(port, {StreamLabel::scales, 1, tile.shape.cols}, format_, tile.context->source, numbers);
  }

  void measure(const Tile& tile, const std::vector<float>& mean, std::vector<float>& scale) const {
    const std::uint32_t cols = tile.shape.cols;
    std::vector<double> sum(cols), largest(cols);
    for (std::size_t i = 0; i < tile.values.size(); ++i) {
      const double x = double{tile.values[i]} - mean[i % cols];
      sum[i % cols] += x * x;
      largest[i % cols] = std::max(largest[i % cols], std::fabs(x));
    }
    for (std::size_t c = 0; c < cols; ++c) {
      const double rms = tile.shape.rows == 0 ? 0 : std::sqrt(sum[c] / tile.shape.rows);
      const double s = kind_ == Kind::rms ? rms : kind_ == Kind::absmax ? largest[c] : std::sqrt(largest[c]);
      scale[c] = static_cast<float>(s);
    }
  }

  Kind kind_ = Kind::rms;
  Center center_ = Center::none;
  NumberFormat format_ = NumberFormat::f16;
};

}  // namespace

std::unique_ptr<Stage> make_norm() {
  return std::make_unique<Norm>();
}

}  // namespace kvzip
