// SPDX-License-Identifier: Apache-2.0
// A uniform quantiser with one absolute step and no side information but the tile's range: with an entropy coder behind
// it the entropy-constrained scalar quantiser, which is within 0.25 bit of the rate-distortion bound at high rate (Gish
// and Pierce 1968). A dead zone (round < 1/2) and representatives moved to the mean of their cells (Sullivan 1996) are
// what low rates gain most from.
//   q = sign(x) floor(|x| / step + round); x' = sign(q) (|q| - d) step
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "codec/fail.hpp"
#include "codec/kernels/products.hpp"
#include "codec/kernels/rows.hpp"
#include "codec/kernels/uniform_steps.hpp"
#include "codec/stages/stages.hpp"

namespace kvzip {
namespace {

enum class Points : std::uint8_t { middle, centroid };
enum class Unit : std::uint8_t { value, rms };
constexpr std::uint32_t kMostSteps = 32767;
constexpr double kLargestStep = 1e12, kLeastStep = 1e-30;  // as a float a normal number

class Uniform final : public Stage {
 public:
  StageKind kind() const override { return StageKind::additive; }
  bool begins() const override { return true; }

  void fields(FieldVisitor& v) override {
    static constexpr std::array<std::string_view, 2> kPoints{"middle", "centroid"};
    static constexpr std::array<std::string_view, 2> kUnits{"value", "rms"};
    v.real("step", step_, kLeastStep, kLargestStep, "distance of neighbouring levels");
    v.choice("unit", unit_, kUnits, "steps as the values are, or in root mean squares of the tile");
    v.real("round", round_, 0, 0.5, "what is added before rounding down; below 0.5 zero gets a wider cell");
    v.choice("points", points_, kPoints, "a code stands for its level, or for the mean of the values that took it");
  }

  void encode(Tile& tile, StreamWriter& out) const override {
    const float step = unit_ == Unit::rms ? relative_step(tile) : static_cast<float>(step_);
    kernels::UniformSteps u = steps(step, kMostSteps);
    if (unit_ == Unit::rms) out.put(step_stream(step));
    u.zero = static_cast<float>(largest_code(tile, u));
    const auto range = static_cast<std::uint32_t>(u.zero);
    Stream low = code_stream(*tile.context, tile.shape, low_alphabet(range));
    Stream high = code_stream(*tile.context, tile.shape, high_alphabet(range));
    low.data.resize(tile.values.size());
    if (high.alphabet > 1) high.data.resize(tile.values.size());
    for (std::size_t r = 0; r < tile.shape.rows; ++r) {
      kernels::uniform_codes(tile.row(r), tile.shape.cols, u, low.data.data() + r * tile.shape.cols, row_of(high, r));
    }
    Stream stored = side_stream(2, 1);
    stored.data.push_back(static_cast<std::uint8_t>(range));
    stored.data.push_back(static_cast<std::uint8_t>(range >> 8));
    out.put(std::move(stored));
    if (points_ == Points::centroid) {
      Stream offsets = side_stream(1, 2);
      for (const int offset : mean_offsets(tile, low, high, u)) {
        offsets.data.push_back(static_cast<std::uint8_t>(offset));
      }
      use_offsets(offsets, u);
      out.put(std::move(offsets));
    }
    if (tile.wanted) subtract(tile, low, high, u);
    if (high.alphabet > 1) out.put(std::move(high));
    out.put(std::move(low));
  }

  void decode(Tile& tile, TileShape in, StreamReader& streams) const override {
    const float step = unit_ == Unit::rms ? stored_step(streams) : static_cast<float>(step_);
    Stream stored = side_stream(2, 1);
    streams.get(stored);
    const std::uint32_t range = stored.data.at(0) + 256u * stored.data.at(1);
    if (range > kMostSteps) fail(ErrorCode::corrupt, "codes up to {}", range);
    kernels::UniformSteps u = steps(step, range);
    if (points_ == Points::centroid) {
      Stream offsets = side_stream(1, 2);
      streams.get(offsets);
      use_offsets(offsets, u);
    }
    Stream high = code_stream(*tile.context, in, high_alphabet(range));
    if (high.alphabet > 1) streams.get(high);
    Stream low = code_stream(*tile.context, in, low_alphabet(range));
    streams.get(low);
    const auto decode_row = tile.blank ? kernels::uniform_values : kernels::uniform_values_add;
    for (std::size_t r = 0; r < in.rows; ++r) {
      decode_row(low.data.data() + r * in.cols, row_of(high, r), in.cols, u, tile.row(r));
    }
  }

 private:
  kernels::UniformSteps steps(float step, std::uint32_t range) const {
    kernels::UniformSteps u{step, static_cast<float>(range)};
    u.dead_zone = round_ < 0.5;
    u.round = static_cast<float>(round_);
    return u;
  }

  /// A tile of zeros has no root mean square; any step serves it.
  float relative_step(const Tile& tile) const {
    const double energy = kernels::dot(tile.values.data(), tile.values.data(), tile.values.size());
    const double rms = energy > 0 ? std::sqrt(energy / static_cast<double>(tile.values.size())) : 1;
    return static_cast<float>(std::clamp(step_ * rms, kLeastStep, kLargestStep));
  }
  static Stream step_stream(float step) {
    Stream s = side_stream(4, 1);
    const auto bits = std::bit_cast<std::uint32_t>(step);
    for (int i = 0; i < 4; ++i) s.data.push_back(static_cast<std::uint8_t>(bits >> 8 * i));
    return s;
  }
  static float stored_step(StreamReader& streams) {
    Stream s = side_stream(4, 1);
    streams.get(s);
    std::uint32_t bits = 0;
    for (std::size_t i = 0; i < 4; ++i) bits |= std::uint32_t{s.data.at(i)} << 8 * i;
    const auto step = std::bit_cast<float>(bits);
    if (!(step > 0) || !std::isfinite(step)) fail(ErrorCode::corrupt, "a step of {}", step);
    return step;
  }

  /// Codes grow with magnitudes, so the largest magnitude has the largest code.
  static std::uint32_t largest_code(const Tile& tile, const kernels::UniformSteps& u) {
    float low = 0, high = 0;
    kernels::min_max(tile.values.data(), tile.values.size(), &low, &high);
    const float most = std::max(-low, high);
    std::uint8_t code = 0, high_code = 0;
    kernels::uniform_codes(&most, 1, u, &code, &high_code);
    return code + 256u * high_code - kMostSteps;
  }

  /// How far, in 1/256 of a step, the values with |q| = 1 and those beyond lie below their levels on average.
  static std::array<int, 2> mean_offsets(const Tile& tile, const Stream& low, const Stream& high,
                                         const kernels::UniformSteps& u) {
    kernels::UniformSums sums;
    kernels::uniform_sums(tile.values.data(), low.data.data(), high.data.empty() ? nullptr : high.data.data(),
                          low.data.size(), u, sums);
    const auto mean = [](std::int64_t sum, std::int64_t count) {
      if (count == 0) return 0;
      const double offset = static_cast<double>(sum) / static_cast<double>(count) / 256;
      return static_cast<int>(std::clamp(std::nearbyint(offset), -128.0, 127.0));
    };
    return {mean(sums.one, sums.ones), mean(sums.more, sums.mores)};
  }
  static void use_offsets(const Stream& offsets, kernels::UniformSteps& u) {
    u.one = static_cast<float>(static_cast<std::int8_t>(offsets.data.at(0))) / 256;
    u.more = static_cast<float>(static_cast<std::int8_t>(offsets.data.at(1))) / 256;
  }

  static void subtract(Tile& tile, const Stream& low, const Stream& high, const kernels::UniformSteps& u) {
    std::vector<float> approximation(tile.shape.cols);
    tile.sound = true;
    for (std::size_t r = 0; r < tile.shape.rows; ++r) {
      kernels::uniform_values(low.data.data() + r * tile.shape.cols, row_of(high, r), tile.shape.cols, u,
                              approximation.data());
      tile.subtract_row(r, approximation);
      tile.sound = tile.sound && kernels::all_finite(tile.row(r), tile.shape.cols);
    }
  }

  static std::uint32_t low_alphabet(std::uint32_t range) { return std::min(2 * range + 1, 256u); }
  static std::uint32_t high_alphabet(std::uint32_t range) { return (2 * range + 1 + 255) / 256; }
  static std::uint8_t* row_of(Stream& s, std::size_t r) {
    return s.data.empty() ? nullptr : s.data.data() + r * s.cols;
  }
  static const std::uint8_t* row_of(const Stream& s, std::size_t r) {
    return s.data.empty() ? nullptr : s.data.data() + r * s.cols;
  }
  static Stream side_stream(std::uint32_t width, std::uint32_t cols) {
    Stream s;
    s.label = StreamLabel::scales;
    s.type = StreamType::elements;
    s.rows = 1;
    s.cols = cols;
    s.width = width;
    return s;
  }
  static Stream code_stream(const TileContext& context, TileShape shape, std::uint32_t alphabet) {
    Stream s;
    s.type = StreamType::symbols;
    s.alphabet = alphabet;
    s.rows = shape.rows;
    s.cols = shape.cols;
    s.head_dim = context.head_dim;
    return s;
  }

  double step_ = 0.1, round_ = 0.5;
  Points points_ = Points::middle;
  Unit unit_ = Unit::value;
};

}  // namespace

std::unique_ptr<Stage> make_uniform() {
  return std::make_unique<Uniform>();
}

}  // namespace kvzip
