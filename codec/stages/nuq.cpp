// SPDX-License-Identifier: Apache-2.0
// Non-uniform quantisation with a codebook of the tile's own (KVQuant, arXiv 2401.18079 sections 3.2 to 3.5). Each
// vector, a channel's tokens or a token's channels, is brought into [-1, 1] by its range; one codebook for all of them
// is the weighted k-means of what comes out. The paper weighs by squared gradients from calibration text; here it is by
// how much an error in the token matters to attention. Q-Norm (section 3.6) moves the levels so that mean and deviation
// survive.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "codec/fail.hpp"
#include "codec/kernels/codewords.hpp"
#include "codec/kernels/rows.hpp"
#include "codec/side.hpp"
#include "codec/stages/kmeans.hpp"
#include "codec/stages/stages.hpp"

namespace kvzip {
namespace {

enum class Axis : std::uint8_t { channel, token, token_head };
enum class Weight : std::uint8_t { none, saliency };
enum class Norm : std::uint8_t { none, moments };

/// Middle and half width of each vector's range. A band is one row, or all of them; segment s has the columns edges[s]
/// to edges[s + 1].
struct Ranges {
  std::uint32_t bands = 0;
  std::vector<std::uint32_t> edges;
  std::vector<float> half, middle;

  std::uint32_t segments() const { return static_cast<std::uint32_t>(edges.size() - 1); }
  std::size_t band(std::size_t row) const { return bands == 1 ? 0 : row; }
};

class Nuq final : public Cloned<Nuq, Stage> {
 public:
  StageKind kind() const override { return StageKind::additive; }
  bool weighs() const override { return weight_ == Weight::saliency; }

  void fields(FieldVisitor& v) override {
    static constexpr std::array<std::string_view, 3> kAxes{"channel", "token", "token-head"};
    static constexpr std::array<std::string_view, 2> kWeights{"none", "saliency"};
    static constexpr std::array<std::string_view, 2> kNorms{"none", "moments"};
    v.integer("bits", bits_, 1, 8, "bits of a code");
    v.choice("axis", axis_, kAxes, "what shares a range: a channel's tokens, a token's channels, those of one head");
    v.choice("weight", weight_, kWeights, "what a token counts in the choice of levels");
    v.choice("norm", norm_, kNorms, "moments: levels that keep mean and deviation (Q-Norm)");
    v.choice("scale", format_, kNumberFormatNames, "format of ranges and levels");
  }

  TileShape output(const TileContext& context, TileShape in) const override {
    if (in.cols != context.channels()) fail(ErrorCode::invalid_argument, "nuq: a tile without whole heads");
    return in;
  }

  void encode(Tile& tile, EncodeContext& to) const override {
    Ranges ranges = make_ranges(*tile.context, tile.shape);
    measure(tile, ranges);
    pass_ranges(to.out, *tile.context, ranges);
    std::vector<float> levels = find_levels(tile, ranges);
    std::vector<float> stored = norm_ == Norm::moments ? normed(tile, ranges, levels) : levels;
    pass_levels(to.out, *tile.context, stored);
    if (norm_ == Norm::none) levels = stored;
    Stream codes = code_stream(*tile.context, tile.shape, levels.size());
    codes.allocate();
    std::vector<float> approximation(tile.shape.cols), z(tile.shape.cols);
    to.finite = true;
    for (std::size_t r = 0; r < tile.shape.rows; ++r) {
      std::uint8_t* q = codes.data.data() + r * tile.shape.cols;
      encode_row(tile, r, ranges, levels, z, q);
      if (!to.wanted) continue;
      std::fill(approximation.begin(), approximation.end(), 0.0f);
      add_row(ranges, r, stored, q, approximation.data());
      tile.subtract_row(r, approximation);
      to.finite = to.finite && kernels::all_finite(tile.row(r), tile.shape.cols);
    }
    to.out.pass(codes);
  }

  void decode(Tile& tile, TileShape in, DecodeContext& from) const override {
    Ranges ranges = make_ranges(*tile.context, in);
    pass_ranges(from.in, *tile.context, ranges);
    std::vector<float> levels;
    pass_levels(from.in, *tile.context, levels);
    Stream codes = code_stream(*tile.context, in, levels.size());
    from.in.get(codes);
    for (std::size_t r = 0; r < in.rows; ++r) {
      add_row(ranges, r, levels, codes.data.data() + r * in.cols, tile.row(r));
    }
  }

 private:
  Ranges make_ranges(const TileContext& context, TileShape shape) const {
    Ranges g;
    g.bands = axis_ == Axis::channel ? std::min(shape.rows, 1u) : shape.rows;
    if (axis_ == Axis::token_head && shape.cols != 0) {
      g.edges = context.head_edges();
    } else {
      const std::uint32_t step = axis_ == Axis::channel ? 1 : std::max(shape.cols, 1u);
      for (std::uint64_t c = 0; c < shape.cols; c += step) g.edges.push_back(static_cast<std::uint32_t>(c));
      g.edges.push_back(shape.cols);
    }
    return g;
  }

  /// Values that are stored exactly set no range.
  static void measure(const Tile& tile, Ranges& g) {
    constexpr float kInfinity = std::numeric_limits<float>::infinity();
    const std::size_t count = std::size_t{g.bands} * g.segments();
    std::vector<float> low(count, kInfinity), high(count, -kInfinity);
    for (std::size_t r = 0; r < tile.shape.rows; ++r) {
      for (std::size_t s = 0; s < g.segments(); ++s) {
        const std::size_t at = g.band(r) * g.segments() + s;
        for (std::size_t c = g.edges[s]; c < g.edges[s + 1]; ++c) {
          if (taken(tile, r, c)) continue;
          low[at] = std::min(low[at], tile.row(r)[c]);
          high[at] = std::max(high[at], tile.row(r)[c]);
        }
      }
    }
    g.half.assign(count, 0.0f);
    g.middle.assign(count, 0.0f);
    for (std::size_t i = 0; i < count; ++i) {
      if (low[i] > high[i]) continue;
      g.half[i] = 0.5f * high[i] - 0.5f * low[i];
      g.middle[i] = 0.5f * high[i] + 0.5f * low[i];
    }
  }
  static bool taken(const Tile& tile, std::size_t r, std::size_t c) {
    return !tile.taken.empty() && tile.taken[r * tile.shape.cols + c] != 0;
  }

  /// z = (x - middle) / half of a row; a vector of one value is 0.
  static void normalise(const Tile& tile, std::size_t r, const Ranges& g, std::vector<float>& z) {
    const float *half = g.half.data() + g.band(r) * g.segments(), *middle = g.middle.data() + g.band(r) * g.segments();
    for (std::size_t s = 0; s < g.segments(); ++s) {
      for (std::size_t c = g.edges[s]; c < g.edges[s + 1]; ++c) {
        z[c] = half[s] == 0 ? 0 : std::clamp((tile.row(r)[c] - middle[s]) / half[s], -1.0f, 1.0f);
      }
    }
  }

  std::vector<float> find_levels(const Tile& tile, const Ranges& g) const {
    KMeans means;
    std::vector<float> z(tile.shape.cols);
    const std::vector<double> weights =
        weight_ == Weight::saliency ? token_weights(tile) : std::vector<double>(tile.shape.rows, 1.0);
    for (std::size_t r = 0; r < tile.shape.rows; ++r) {
      normalise(tile, r, g, z);
      for (std::size_t c = 0; c < z.size(); ++c) {
        if (!taken(tile, r, c)) means.add(z[c], weights[r]);
      }
    }
    return means.levels(std::size_t{1} << bits_);
  }

  static std::vector<float> bounds(const std::vector<float>& levels) {
    std::vector<float> between(levels.size() - 1);
    for (std::size_t i = 0; i < between.size(); ++i) between[i] = 0.5f * levels[i] + 0.5f * levels[i + 1];
    return between;
  }
  static void encode_row(const Tile& tile, std::size_t r, const Ranges& g, const std::vector<float>& levels,
                         std::vector<float>& z, std::uint8_t* codes) {
    normalise(tile, r, g, z);
    const std::vector<float> between = bounds(levels);
    kernels::nearest_entries(z.data(), z.size(), between.data(), between.size(), codes);
  }

  /// Q-Norm: with mean m1 and deviation s1 of z, m2 and s2 of its levels, a level becomes (level - m2) s1 / s2 + m1.
  static std::vector<float> normed(const Tile& tile, const Ranges& g, const std::vector<float>& levels) {
    double n = 0, sum1 = 0, square1 = 0, sum2 = 0, square2 = 0;
    std::vector<float> z(tile.shape.cols), out = levels;
    std::vector<std::uint8_t> codes(tile.shape.cols);
    for (std::size_t r = 0; r < tile.shape.rows; ++r) {
      encode_row(tile, r, g, levels, z, codes.data());
      for (std::size_t c = 0; c < z.size(); ++c) {
        if (taken(tile, r, c)) continue;
        const double a = z[c], b = levels[codes[c]];
        n += 1, sum1 += a, square1 += a * a, sum2 += b, square2 += b * b;
      }
    }
    if (n == 0) return out;
    const double m1 = sum1 / n, m2 = sum2 / n, v1 = square1 / n - m1 * m1, v2 = square2 / n - m2 * m2;
    if (!(v1 > 0) || !(v2 > 0)) return out;
    for (float& level : out) level = static_cast<float>((level - m2) * std::sqrt(v1 / v2) + m1);
    return out;
  }

  static void add_row(const Ranges& g, std::size_t r, const std::vector<float>& levels, const std::uint8_t* codes,
                      float* x) {
    const float *half = g.half.data() + g.band(r) * g.segments(), *middle = g.middle.data() + g.band(r) * g.segments();
    for (std::size_t s = 0; s < g.segments(); ++s) {
      for (std::size_t c = g.edges[s]; c < g.edges[s + 1]; ++c) x[c] += levels[codes[c]] * half[s] + middle[s];
    }
  }

  // The streams: half widths and middles of ranges, the levels, then the codes.
  void pass_ranges(StreamPort& port, const TileContext& context, Ranges& g) const {
    const NumberShape shape{StreamLabel::scales, g.bands, g.segments()};
    pass_numbers(port, shape, format_, context.source, g.half);
    pass_numbers(port, shape, format_, context.source, g.middle);
  }
  void pass_levels(StreamPort& port, const TileContext& context, std::vector<float>& levels) const {
    pass_numbers(port, {StreamLabel::scales, 1, 1u << bits_}, format_, context.source, levels);
  }

  std::uint64_t bits_ = 3;
  Axis axis_ = Axis::channel;
  Weight weight_ = Weight::saliency;
  Norm norm_ = Norm::none;
  NumberFormat format_ = NumberFormat::f16;
};

}  // namespace

std::unique_ptr<Stage> make_nuq() {
  return std::make_unique<Nuq>();
}

}  // namespace kvzip
