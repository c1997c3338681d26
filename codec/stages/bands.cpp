// SPDX-License-Identifier: Apache-2.0
// Channels in two bands (VidKV, arXiv 2503.16257 section 3): of each head those of the largest range have `high` bits;
// the others are taken to the frequency domain, along the channels, and have `low` bits. The paper's FFT of a real
// vector is kept here as the same number of real coefficients, of cosines and sines, since the others are their mirror
// images.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>

#include "codec/fail.hpp"
#include "codec/portable_math.hpp"
#include "codec/side.hpp"
#include "codec/stages/stages.hpp"
#include "codec/stages/sub_tile.hpp"

namespace kvzip {
namespace {

enum class Spectrum : std::uint8_t { none, fourier };

/// Rows are the orthonormal functions on n places: the constant, cosine and sine of each frequency, and for even n the
/// alternating one.
std::vector<float> fourier_basis(std::size_t n) {
  constexpr double kTurn = 6.283185307179586;
  std::vector<float> basis(n * n);
  for (std::size_t k = 0; k < n; ++k) {
    const std::size_t frequency = (k + 1) / 2;
    const bool alone = k == 0 || 2 * frequency == n;
    const double length = std::sqrt((alone ? 1.0 : 2.0) / static_cast<double>(n));
    for (std::size_t j = 0; j < n; ++j) {
      const double turns = static_cast<double>(frequency * j % n) / static_cast<double>(n);
      const auto [s, c] = portable::sincos(kTurn * turns);
      basis[k * n + j] = static_cast<float>(length * (k % 2 == 1 || alone ? c : s));
    }
  }
  return basis;
}

/// A run's channels of either band, and the pieces of the lower one that are transformed together.
struct Split {
  std::vector<std::uint32_t> high, low;
  std::vector<std::uint32_t> pieces;  // of `low`: where each begins, and the end
};

class Bands final : public Cloned<Bands, Stage> {
 public:
  StageKind kind() const override { return StageKind::additive; }

  void fields(FieldVisitor& v) override {
    static constexpr std::array<std::string_view, 2> kSpectra{"none", "fourier"};
    v.integer("high", high_, 1, 8, "bits of the channels of large range");
    v.integer("low", low_, 1, 8, "bits of the others");
    v.real("share", share_, 0, 1, "share of each head's channels that have more bits");
    v.choice("spectrum", spectrum_, kSpectra, "what is quantised of the others: they themselves, or their spectrum");
    v.integer("group", group_, 0, 1u << 30, "tokens of a channel or coefficient per scale", "all");
    v.choice("scale", format_, kNumberFormatNames, "format of scales and minima");
  }

  void check() override {
    high_quant_ = quant(high_);
    low_quant_ = quant(low_);
  }

  TileShape output(const TileContext& context, TileShape in) const override {
    if (in.cols != context.channels()) fail(ErrorCode::invalid_argument, "bands: a tile without whole heads");
    return in;
  }

  void encode(Tile& tile, EncodeContext& to) const override {
    const std::vector<float> ranges = measure(tile);
    for (const HeadRun& run : runs(*tile.context, tile.shape)) {
      Stream positions = position_stream(run.heads, many(run), run.head_dim);
      choose(run, ranges, positions.positions);
      const Split s = split(run, positions.positions);
      to.out.pass(positions);
      encode_band(tile, s.high, {}, *high_quant_, to);
      encode_band(tile, s.low, s.pieces, *low_quant_, to);
    }
  }

  void decode(Tile& tile, TileShape in, DecodeContext& from) const override {
    for (const HeadRun& run : runs(*tile.context, in)) {
      Stream positions = position_stream(run.heads, many(run), run.head_dim);
      from.in.get(positions);
      const Split s = split(run, positions.positions);
      decode_band(tile, s.high, {}, *high_quant_, from);
      decode_band(tile, s.low, s.pieces, *low_quant_, from);
    }
  }

 private:
  static constexpr std::uint32_t kWidest = 256;  // channels that are transformed together

  std::uint32_t many(const HeadRun& run) const {
    return std::min(run.head_dim, static_cast<std::uint32_t>(std::floor(share_ * run.head_dim)));
  }
  static std::vector<HeadRun> runs(const TileContext& context, TileShape shape) {
    return shape.cols == 0 ? std::vector<HeadRun>{} : context.head_runs();
  }

  static std::vector<float> measure(const Tile& tile) {
    constexpr float kInfinity = std::numeric_limits<float>::infinity();
    std::vector<float> low(tile.shape.cols, kInfinity), high(tile.shape.cols, -kInfinity);
    for (std::size_t r = 0; r < tile.shape.rows; ++r) {
      for (std::size_t c = 0; c < low.size(); ++c) {
        low[c] = std::min(low[c], tile.row(r)[c]);
        high[c] = std::max(high[c], tile.row(r)[c]);
      }
    }
    for (std::size_t c = 0; c < low.size(); ++c) high[c] = low[c] > high[c] ? 0 : 0.5f * high[c] - 0.5f * low[c];
    return high;
  }

  /// Of each head the channels of the largest ranges, of equal ones the first.
  void choose(const HeadRun& run, const std::vector<float>& ranges, std::vector<std::uint32_t>& chosen) const {
    std::vector<std::uint32_t> order(run.head_dim);
    for (std::uint32_t h = 0; h < run.heads; ++h) {
      const float* range = ranges.data() + run.first + std::size_t{h} * run.head_dim;
      std::iota(order.begin(), order.end(), 0u);
      std::stable_sort(order.begin(), order.end(),
                       [&](std::uint32_t a, std::uint32_t b) { return range[a] > range[b]; });
      std::sort(order.begin(), order.begin() + many(run));
      chosen.insert(chosen.end(), order.begin(), order.begin() + many(run));
    }
  }

  Split split(const HeadRun& run, const std::vector<std::uint32_t>& chosen) const {
    Split s;
    std::size_t next = 0;
    for (std::uint32_t h = 0; h < run.heads; ++h) {
      const std::size_t end = next + many(run);
      const auto first_low = static_cast<std::uint32_t>(s.low.size());
      for (std::uint32_t d = 0; d < run.head_dim; ++d) {
        const bool high = next < end && chosen[next] == d;
        (high ? s.high : s.low).push_back(run.first + h * run.head_dim + d);
        next += static_cast<std::size_t>(high);
      }
      for (std::uint64_t c = first_low; c < s.low.size(); c += kWidest) {
        s.pieces.push_back(static_cast<std::uint32_t>(c));
      }
    }
    s.pieces.push_back(static_cast<std::uint32_t>(s.low.size()));
    return s;
  }

  std::shared_ptr<const Stage> quant(std::uint64_t bits) const {
    return nested_quant("bits=" + std::to_string(bits) +
                        " axis=channel group=" + (group_ == 0 ? "all" : std::to_string(group_)) +
                        " scale=" + std::string(kNumberFormatNames[static_cast<std::size_t>(format_)]));
  }

  /// The context of a band's channels, side by side.
  static TileContext band_context(const TileContext& context, std::size_t channels) {
    TileContext c;
    c.role = context.role;
    c.heads = 1;
    c.head_dim = static_cast<std::uint32_t>(channels);
    c.source = context.source;
    return c;
  }

  void encode_band(Tile& tile, const std::vector<std::uint32_t>& cols, const std::vector<std::uint32_t>& pieces,
                   const Stage& quant, EncodeContext& to) const {
    const TileContext context = band_context(*tile.context, cols.size());
    Tile part = take_columns(tile, context, cols);
    const bool transformed = spectrum_ == Spectrum::fourier && !pieces.empty();
    Buffer<std::uint8_t> taken;
    if (transformed) {
      transform(part, pieces, false);
      taken.swap(part.taken);  // places mean nothing among coefficients
    }
    EncodeContext nested{to.out, to.wanted};
    quant.encode(part, nested);
    if (!to.wanted) return;
    if (transformed) transform(part, pieces, true);
    for (std::size_t i = 0; i < taken.size(); ++i) {
      if (taken[i] != 0) part.values[i] = 0;
    }
    put_columns(part, cols, tile);
  }

  void decode_band(Tile& tile, const std::vector<std::uint32_t>& cols, const std::vector<std::uint32_t>& pieces,
                   const Stage& quant, DecodeContext& from) const {
    const TileContext context = band_context(*tile.context, cols.size());
    Tile part = take_columns(tile, context, cols);
    const Buffer<float> rest = part.values;
    DecodeContext nested{from.in, true};
    quant.decode(part, part.shape, nested);
    if (spectrum_ == Spectrum::fourier && !pieces.empty()) transform(part, pieces, true);
    for (std::size_t i = 0; i < rest.size(); ++i) part.values[i] = rest[i] + part.values[i];
    put_columns(part, cols, tile);
  }

  /// Each piece of each row to its coefficients, or back. Sums are formed in the order of what is summed over.
  static void transform(Tile& part, const std::vector<std::uint32_t>& pieces, bool back) {
    std::vector<float> basis, out;
    for (std::size_t p = 0; p + 1 < pieces.size(); ++p) {
      const std::size_t n = pieces[p + 1] - pieces[p];
      if (n * n != basis.size()) basis = fourier_basis(n);
      out.resize(n);
      for (std::size_t r = 0; r < part.shape.rows; ++r) {
        float* x = part.row(r) + pieces[p];
        std::fill(out.begin(), out.end(), 0.0f);
        for (std::size_t k = 0; k < n; ++k) {
          const float* row = basis.data() + k * n;
          for (std::size_t j = 0; j < n; ++j) {
            if (back) {
              out[j] += x[k] * row[j];
            } else {
              out[k] += x[j] * row[j];
            }
          }
        }
        std::copy(out.begin(), out.end(), x);
      }
    }
  }

  std::uint64_t high_ = 2, low_ = 1, group_ = 0;
  double share_ = 0.5;
  Spectrum spectrum_ = Spectrum::fourier;
  NumberFormat format_ = NumberFormat::f16;
  std::shared_ptr<const Stage> high_quant_, low_quant_;
};

}  // namespace

std::unique_ptr<Stage> make_bands() {
  return std::make_unique<Bands>();
}

}  // namespace kvzip
