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
#include "codec/side.hpp"
#include "codec/stages/stages.hpp"

namespace kvzip {
namespace {

enum class Points : std::uint8_t { middle, centroid };
enum class Unit : std::uint8_t { value, rms };
constexpr std::uint32_t kMostSteps = 32767;
constexpr double kLargestStep = 1e12, kLeastStep = 1e-30;  // as a float a normal number

class Uniform final : public Cloned<Uniform, Stage> {
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

  void encode(Tile& tile, EncodeContext& to) const override {
    Side side;
    const float step = unit_ == Unit::rms ? relative_step(tile) : static_cast<float>(step_);
    side.step = std::bit_cast<std::uint32_t>(step);
    kernels::UniformSteps u = steps(step, kMostSteps);
    side.range = static_cast<std::uint16_t>(largest_code(tile, u));
    u.zero = static_cast<float>(side.range);
    Codes codes = code_streams(*tile.context, tile.shape, side.range);
    codes.low.allocate();
    if (codes.high.alphabet > 1) codes.high.allocate();
    for (std::size_t r = 0; r < tile.shape.rows; ++r) {
      kernels::uniform_codes(tile.row(r), tile.shape.cols, u, row_of(codes.low, r), row_of(codes.high, r));
    }
    if (points_ == Points::centroid) side.offsets = mean_offsets(tile, codes, u);
    use_offsets(side, u);
    pass_side(to.out, side);
    if (to.wanted) to.finite = subtract(tile, codes, u);
    pass_codes(to.out, codes);
  }

  void decode(Tile& tile, TileShape in, DecodeContext& from) const override {
    Side side;
    pass_side(from.in, side);
    const float step = unit_ == Unit::rms ? std::bit_cast<float>(side.step) : static_cast<float>(step_);
    if (!(step > 0) || !std::isfinite(step)) fail(ErrorCode::corrupt, "a step of {}", step);
    if (side.range > kMostSteps) fail(ErrorCode::corrupt, "codes up to {}", side.range);
    kernels::UniformSteps u = steps(step, side.range);
    use_offsets(side, u);
    Codes codes = code_streams(*tile.context, in, side.range);
    pass_codes(from.in, codes);
    const auto decode_row = from.blank ? kernels::uniform_values : kernels::uniform_values_add;
    for (std::size_t r = 0; r < in.rows; ++r) {
      decode_row(row_of(codes.low, r), row_of(codes.high, r), in.cols, u, tile.row(r));
    }
  }

 private:
  /// The side streams.
  struct Side {
    std::uint32_t step = 0;                 // the bits of a float; only of relative steps
    std::uint16_t range = 0;                // the largest code
    std::array<std::uint8_t, 2> offsets{};  // of |q| = 1 and beyond, signed, in 1/256 of a step; only of centroids
  };
  void pass_side(StreamPort& port, Side& side) const {
    if (unit_ == Unit::rms) pass_integer(port, StreamLabel::scales, side.step);
    pass_integer(port, StreamLabel::scales, side.range);
    if (points_ == Points::centroid) pass_integers<std::uint8_t>(port, StreamLabel::scales, side.offsets);
  }
  /// Codes in one byte or two.
  struct Codes {
    Stream low, high;
  };
  static Codes code_streams(const TileContext& context, TileShape shape, std::uint32_t range) {
    const std::uint32_t levels = 2 * range + 1;
    return {code_stream(context, shape, std::min(levels, 256u)), code_stream(context, shape, (levels + 255) / 256)};
  }
  static void pass_codes(StreamPort& port, Codes& codes) {
    if (codes.high.alphabet > 1) port.pass(codes.high);
    port.pass(codes.low);
  }

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
  static std::array<std::uint8_t, 2> mean_offsets(const Tile& tile, const Codes& codes,
                                                  const kernels::UniformSteps& u) {
    kernels::UniformSums sums;
    kernels::uniform_sums(tile.values.data(), codes.low.data.data(), row_of(codes.high, 0), codes.low.data.size(), u,
                          sums);
    const auto mean = [](std::int64_t sum, std::int64_t count) {
      if (count == 0) return std::uint8_t{0};
      const double offset = static_cast<double>(sum) / static_cast<double>(count) / 256;
      return static_cast<std::uint8_t>(static_cast<int>(std::clamp(std::nearbyint(offset), -128.0, 127.0)));
    };
    return {mean(sums.one, sums.ones), mean(sums.more, sums.mores)};
  }
  static void use_offsets(const Side& side, kernels::UniformSteps& u) {
    u.one = static_cast<float>(static_cast<std::int8_t>(side.offsets[0])) / 256;
    u.more = static_cast<float>(static_cast<std::int8_t>(side.offsets[1])) / 256;
  }

  /// True when all that is left is finite.
  static bool subtract(Tile& tile, const Codes& codes, const kernels::UniformSteps& u) {
    std::vector<float> approximation(tile.shape.cols);
    bool finite = true;
    for (std::size_t r = 0; r < tile.shape.rows; ++r) {
      kernels::uniform_values(row_of(codes.low, r), row_of(codes.high, r), tile.shape.cols, u, approximation.data());
      tile.subtract_row(r, approximation);
      finite = finite && kernels::all_finite(tile.row(r), tile.shape.cols);
    }
    return finite;
  }

  static std::uint8_t* row_of(Stream& s, std::size_t r) {
    return s.data.empty() ? nullptr : s.data.data() + r * s.cols;
  }
  static const std::uint8_t* row_of(const Stream& s, std::size_t r) {
    return s.data.empty() ? nullptr : s.data.data() + r * s.cols;
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
