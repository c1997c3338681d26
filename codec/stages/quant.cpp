// SPDX-License-Identifier: Apache-2.0
// Uniform quantisers.
//   asym    n levels over [min, max] of a group (KIVI, arXiv 2402.02750 section 3.1; GEAR's backbones):
//           scale = (max - min) / (n - 1), q = round((x - min) / scale), x' = q scale + min
//   sym     2M + 1 levels: scale = absmax / M, q = round(x / scale + M), x' = (q - M) scale
//   absmax  CacheGen's vectorwise form (arXiv 2310.07240; released encoder): the absolute maximum m itself is stored,
//           q = round(x (M / m) + M), x' = (q - M) / M m
// Stored numbers are rounded to their short format first and the rounded ones are used on both sides. Rounding is to
// nearest, ties to even.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "codec/fail.hpp"
#include "codec/kernels/quantise.hpp"
#include "codec/side.hpp"
#include "codec/stages/stages.hpp"

namespace kvzip {
namespace {

enum class Mode : std::uint8_t { asym, sym, absmax };
enum class Axis : std::uint8_t { channel, token, token_head, head, tile };
enum class Fit : std::uint8_t { range, mean };

/// Which values share a scale: bands of rows times segments of columns.
struct Groups {
  std::uint32_t rows_per_band = 1, bands = 0;
  std::vector<std::uint32_t> edges;  // segment s covers columns edges[s] to edges[s + 1]
  std::uint32_t segments() const { return static_cast<std::uint32_t>(edges.size() - 1); }
};

class Quant final : public Cloned<Quant, Stage> {
 public:
  StageKind kind() const override { return StageKind::additive; }
  bool begins() const override { return true; }

  void fields(FieldVisitor& v) override {
    static constexpr std::array<std::string_view, 3> kModes{"asym", "sym", "absmax"};
    static constexpr std::array<std::string_view, 5> kAxes{"channel", "token", "token-head", "head", "tile"};
    static constexpr std::array<std::string_view, 2> kFits{"range", "mean"};
    v.choice("mode", mode_, kModes, "asym: min and max; sym: odd levels around 0; absmax: CacheGen's form of sym");
    v.integer("bits", bits_, 0, 8, "bits of a code: 2^bits levels for asym, 2^bits - 1 for the others", "levels");
    v.integer("levels", levels_, 0, 65535, "number of levels instead of bits; odd for sym and absmax", "bits");
    v.choice(
        "axis", axis_, kAxes,
        "what shares a scale: a channel's tokens, a token's channels, a token's channels of one head, a head, all");
    v.integer("group", group_, 0, 1u << 30, "tokens (channel, head, tile) or channels (token, token-head) per scale",
              "all");
    v.choice("scale", format_, kNumberFormatNames, "format of scales and minima");
    v.since("1.1");
    v.choice("fit", fit_, kFits, "range: scales from the largest values; mean: of 3 levels, from the mean magnitude");
  }

  void check() override {
    if (bits_ == 0 && levels_ == 0) bits_ = 4;
    if (bits_ != 0 && levels_ != 0) fail(ErrorCode::invalid_argument, "quant: give bits or levels, not both");
    if (levels() < 2) fail(ErrorCode::invalid_argument, "quant: {} level is too few", levels());
    if (mode_ != Mode::asym && (levels() % 2 == 0 || levels() < 3)) {
      fail(ErrorCode::invalid_argument, "quant: sym and absmax need an odd number of levels, 3 or more, not {}",
           levels());
    }
    if (fit_ == Fit::mean && (mode_ != Mode::sym || levels() != 3)) {
      fail(ErrorCode::invalid_argument, "quant: fit=mean is for mode=sym and 3 levels");
    }
  }

  void encode(Tile& tile, EncodeContext& to) const override {
    const Groups g = groups(*tile.context, tile.shape);
    const std::size_t count = std::size_t{g.bands} * g.segments();
    std::vector<float> low(count), high(count);
    measure(tile, g, low, high);
    std::vector<float> scale(count);
    const float m = middle();
    for (std::size_t i = 0; i < count; ++i) {
      const float absmax = std::max(std::fabs(low[i]), std::fabs(high[i]));
      const double range =
          mode_ == Mode::asym ? (double{high[i]} - double{low[i]}) / (levels() - 1) : absmax / double{m};
      scale[i] = mode_ == Mode::absmax ? absmax
                                       : static_cast<float>(std::min(range, double{std::numeric_limits<float>::max()}));
    }
    if (mode_ != Mode::asym) low.clear();
    if (fit_ == Fit::mean) mean_magnitudes(tile, g, scale);
    pass_scales(to.out, g, tile.context->source, scale, low);
    Codes codes = code_streams(*tile.context, tile.shape);
    codes.low.allocate();
    if (levels() > 256) codes.high.allocate();
    std::vector<float> approximation(tile.shape.cols);
    Columns columns(*this, g, scale, low, true);
    to.finite = true;
    for (std::size_t r = 0; r < tile.shape.rows; ++r) {
      const std::size_t at = r * tile.shape.cols;
      std::uint8_t* high_bytes = levels() > 256 ? codes.high.data.data() + at : nullptr;
      const kernels::QuantColumns& q = columns.row(r);
      kernels::quantise(tile.row(r), tile.shape.cols, q, codes.low.data.data() + at, high_bytes);
      if (!to.wanted) continue;
      kernels::dequantise(codes.low.data.data() + at, high_bytes, tile.shape.cols, q, approximation.data());
      tile.subtract_row(r, approximation);
      to.finite = to.finite && kernels::all_finite(tile.row(r), tile.shape.cols);
    }
    pass_codes(to.out, codes);
  }

  void decode(Tile& tile, TileShape in, DecodeContext& from) const override {
    const Groups g = groups(*tile.context, in);
    std::vector<float> scale, low;
    pass_scales(from.in, g, tile.context->source, scale, low);
    Codes codes = code_streams(*tile.context, in);
    pass_codes(from.in, codes);
    Columns columns(*this, g, scale, low, false);
    for (std::size_t r = 0; r < in.rows; ++r) {
      const std::size_t at = r * in.cols;
      const std::uint8_t* high_bytes = levels() > 256 ? codes.high.data.data() + at : nullptr;
      const auto decode_row = from.blank ? kernels::dequantise : kernels::dequantise_add;
      decode_row(codes.low.data.data() + at, high_bytes, in.cols, columns.row(r), tile.row(r));
    }
  }

 private:
  float middle() const {
    const auto code = (levels() - 1) / 2;
    return static_cast<float>(code);
  }

  /// A band's numbers spread over the columns, so that every axis runs through the same loops.
  class Columns {
   public:
    /// `low` is empty where codes count from 0. `encodes`: steps are wanted.
    Columns(const Quant& quant, const Groups& g, std::span<const float> scale, std::span<const float> low, bool encodes)
        : groups_(g), scale_(scale), low_(low), each_(g.segments() == g.edges.back()) {
      const std::size_t cols = g.edges.back() + kernels::kSpreadSlack;
      if (encodes) {
        step_.resize(scale.size());
        for (std::size_t i = 0; i < scale.size(); ++i) step_[i] = quant.step(scale[i]);
      }
      for (Floats* spread : {&spread_low_, &spread_scale_, &spread_step_}) spread->resize(each_ ? 0 : cols);
      zeros_.assign(low.empty() ? cols : 0, 0.0f);
      const bool asym = quant.mode_ == Mode::asym, absmax = quant.mode_ == Mode::absmax;
      q_.multiply = absmax;
      q_.zero = asym ? 0 : quant.middle();
      q_.unit = absmax ? quant.middle() : 1.0f;
      q_.top = static_cast<float>(quant.levels() - 1);
    }

    const kernels::QuantColumns& row(std::size_t r) {
      const std::size_t band = r / groups_.rows_per_band;
      if (band == band_) return q_;
      band_ = band;
      q_.scale = columns(scale_, spread_scale_);
      q_.step = step_.empty() ? nullptr : columns(step_, spread_step_);
      q_.low = low_.empty() ? zeros_.data() : columns(low_, spread_low_);
      return q_;
    }

   private:
    using Floats = std::vector<float>;

    const float* columns(std::span<const float> numbers, Floats& room) const {
      const float* first = numbers.data() + band_ * groups_.segments();
      if (each_) return first;
      kernels::spread(first, groups_.edges.data(), groups_.segments(), room.data());
      return room.data();
    }

    const Groups& groups_;
    std::span<const float> scale_, low_;
    bool each_;  // a segment is a column
    Floats step_, spread_low_, spread_scale_, spread_step_, zeros_;
    kernels::QuantColumns q_{};
    std::size_t band_ = ~std::size_t{0};
  };

  /// A constant group has scale 0: every value then has the code of the group's own value.
  float step(float scale) const {
    if (mode_ != Mode::absmax) return scale == 0 ? std::numeric_limits<float>::infinity() : scale;
    const float factor = scale == 0 ? 0 : middle() / scale;
    return std::isfinite(factor) ? factor : 0;
  }

  std::uint32_t levels() const {
    if (levels_ != 0) return static_cast<std::uint32_t>(levels_);
    const std::uint32_t full = 1u << bits_;
    return mode_ == Mode::asym ? full : full - 1;
  }

  Groups groups(const TileContext& context, TileShape shape) const {
    Groups g;
    const auto cut = [&](std::uint32_t begin, std::uint32_t end, std::uint64_t step) {
      for (std::uint64_t c = begin; c < end; c += step) g.edges.push_back(static_cast<std::uint32_t>(c));
    };
    const std::uint64_t width = group_ == 0 ? std::max(1u, shape.cols) : group_;
    switch (axis_) {
      case Axis::channel:
        cut(0, shape.cols, 1);
        break;
      case Axis::token:
        cut(0, shape.cols, width);
        break;
      case Axis::token_head:
        cut_heads(context, cut, width);
        break;
      case Axis::head:
        cut_heads(context, cut, std::max(1u, shape.cols));
        break;
      case Axis::tile:
        cut(0, shape.cols, std::max(1u, shape.cols));
        break;
    }
    g.edges.push_back(shape.cols);
    const bool by_token = axis_ == Axis::token || axis_ == Axis::token_head;
    const std::uint64_t band = by_token ? 1 : group_ == 0 ? std::max(1u, shape.rows) : group_;
    g.rows_per_band = static_cast<std::uint32_t>(std::min<std::uint64_t>(band, std::max(1u, shape.rows)));
    g.bands = (shape.rows + g.rows_per_band - 1) / g.rows_per_band;
    return g;
  }

  template <typename Cut>
  static void cut_heads(const TileContext& context, Cut&& cut, std::uint64_t width) {
    const std::vector<std::uint32_t> edges = context.head_edges();
    for (std::size_t h = 0; h + 1 < edges.size(); ++h) cut(edges[h], edges[h + 1], width);
  }

  static void measure(const Tile& tile, const Groups& g, std::vector<float>& low, std::vector<float>& high) {
    std::fill(low.begin(), low.end(), std::numeric_limits<float>::infinity());
    std::fill(high.begin(), high.end(), -std::numeric_limits<float>::infinity());
    for (std::size_t r = 0; r < tile.shape.rows; ++r) {
      const std::size_t first = r / g.rows_per_band * g.segments();
      if (g.segments() == tile.shape.cols) {
        kernels::min_max_columns(tile.row(r), tile.shape.cols, low.data() + first, high.data() + first);
        continue;
      }
      kernels::min_max_segments(tile.row(r), g.edges.data(), g.segments(), low.data() + first, high.data() + first);
    }
  }

  /// Of what is not stored exactly. With it as the scale, what is below half of it becomes 0 (BitNet b1.58, arXiv
  /// 2402.17764; VidKV, arXiv 2503.16257).
  static void mean_magnitudes(const Tile& tile, const Groups& g, std::vector<float>& mean) {
    std::vector<double> sum(mean.size()), count(mean.size());
    for (std::size_t r = 0; r < tile.shape.rows; ++r) {
      for (std::size_t s = 0; s < g.segments(); ++s) {
        const std::size_t at = r / g.rows_per_band * g.segments() + s;
        for (std::size_t c = g.edges[s]; c < g.edges[s + 1]; ++c) {
          if (!tile.taken.empty() && tile.taken[r * tile.shape.cols + c] != 0) continue;
          sum[at] += std::fabs(double{tile.row(r)[c]});
          count[at] += 1;
        }
      }
    }
    for (std::size_t i = 0; i < mean.size(); ++i) mean[i] = count[i] > 0 ? static_cast<float>(sum[i] / count[i]) : 0;
  }

  // The streams: scales, minima, and codes in one byte or two.
  void pass_scales(StreamPort& port, const Groups& g, DType source, std::vector<float>& scale,
                   std::vector<float>& low) const {
    const NumberShape shape{StreamLabel::scales, g.bands, g.segments()};
    pass_numbers(port, shape, format_, source, scale);
    if (mode_ == Mode::asym) pass_numbers(port, shape, format_, source, low);
  }
  struct Codes {
    Stream low, high;
  };
  Codes code_streams(const TileContext& context, TileShape shape) const {
    return {code_stream(context, shape, std::min(levels(), 256u)), code_stream(context, shape, (levels() + 255) / 256)};
  }
  void pass_codes(StreamPort& port, Codes& codes) const {
    if (levels() > 256) port.pass(codes.high);
    port.pass(codes.low);
  }

  Mode mode_ = Mode::asym;
  std::uint64_t bits_ = 0, levels_ = 0, group_ = 0;
  Axis axis_ = Axis::channel;
  NumberFormat format_ = NumberFormat::f16;
  Fit fit_ = Fit::range;
};

}  // namespace

std::unique_ptr<Stage> make_quant() {
  return std::make_unique<Quant>();
}

}  // namespace kvzip
