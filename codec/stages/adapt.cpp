// SPDX-License-Identifier: Apache-2.0
// A quantiser for entropy coding that spends its bits where attention looks, along components that both sides learn
// from what they have decoded: nothing of the basis is stored, and the coder sees small integers.
//   x = (value - mean) / rms;  z = B x;  q = sign(z) floor(|z| / s + round), s = step 2^(-gain / 2);
//   z' = sign(q) (|q| + 1/2 - round) s;  x' = B' z'
// A token's gain follows its saliency w, the weight of its squared errors in the attention outputs: with steps
// proportional to w^(-1/2) errors would count alike (reverse water-filling, Cover and Thomas 10.3.3); gamma < 1 tempers
// that, because later tokens may look elsewhere. A code stands for the middle of its cell and not for the mean of its
// values: means pull keys and values towards zero, a bias that attention adds up over tokens, where errors without one
// average out. B is refreshed at tokens that lie ever further apart.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "codec/fail.hpp"
#include "codec/kernels/cells.hpp"
#include "codec/kernels/products.hpp"
#include "codec/kernels/rans_lanes.hpp"
#include "codec/magnitudes.hpp"
#include "codec/portable_math.hpp"
#include "codec/side.hpp"
#include "codec/stages/adapt_basis.hpp"
#include "codec/stages/adapt_codes.hpp"
#include "codec/stages/adapt_gains.hpp"
#include "codec/stages/adapt_repeats.hpp"
#include "codec/stages/stages.hpp"

namespace kvzip {
namespace {

constexpr std::uint32_t kLeastRun = 16;  // tokens between two refreshes
constexpr std::uint32_t kFewRows = 16;   // of which means may cost more than they save
constexpr float kMostValue = 1e8f;       // in root mean squares: so that no sum leaves the finite range
constexpr float kLeastRms = 1e-30f, kLargestRms = 1e30f;

float step_of(double step, int gain) {
  return static_cast<float>(step) * kernels::rans_gain(-gain);
}

/// Means have finer steps the more tokens they serve, from half to a sixteenth of the tokens' own.
int mean_gain(std::uint32_t rows) {
  constexpr int kMost = 8;
  return rows == 0 ? 0 : std::min(kMost, static_cast<int>(std::bit_width(rows)) + 1);
}

/// Where the run of tokens after `begin` ends: the basis is refreshed there. Wide ones wait longer, because a refresh
/// costs the cube of the width.
std::uint32_t run_end(std::uint32_t begin, std::uint32_t rows, std::uint32_t width, double growth) {
  const double grown = std::floor(growth * std::max(width / 2, begin));
  const std::uint32_t length =
      std::max(kLeastRun, static_cast<std::uint32_t>(std::min(grown, static_cast<double>(rows))));
  return rows - begin <= length ? rows : begin + length;
}

class Adapt final : public Cloned<Adapt, Stage> {
 public:
  StageKind kind() const override { return StageKind::additive; }
  bool begins() const override { return true; }
  bool weighs() const override { return gamma_ > 0 || level_ > 0; }

  void fields(FieldVisitor& v) override {
    v.real("step", step_, 0.01, 64, "distance of neighbouring levels, in the tile's root mean square");
    v.real("round", round_, 0, 0.5, "what is added before rounding down; below 0.5 zero gets a wider cell");
    v.integer("width", width_, 0, 512, "most channels that share a basis; none: no basis", "none");
    v.real("gamma", gamma_, 0, 2, "power of a token's saliency that its step follows");
    v.real("level", level_, 0, 2, "the same for the tile's mean saliency among all tiles");
    v.text("repeats", repeats_, "none|dump|NAME|HASH",
           "tokens that came before predict those that are alike: none, those of the dump, or of a table");
    v.since("1.1");  // so that it is stated where it is not the default, as files before it have it
    v.real("growth", growth_, 0.25, 16, "tokens between two refreshes of the bases, over the tokens before them");
    v.real("heads", heads_, 0, 1, "how far steps of parts follow their own heads' saliency; 0: all have the same");
  }

  std::string_view lacks_table() const override {
    return table_ != nullptr || repeats_ == kNoRepeats ? std::string_view() : repeats_;
  }
  void use_table(std::shared_ptr<const Table> table, std::string_view reference) override {
    if (table != nullptr && table->type != TableType::repeats) {
      fail(ErrorCode::invalid_argument, "adapt: the table {} is not one of repeats", table->name);
    }
    repeats_ = table == nullptr ? kNoRepeats : reference;
    table_ = std::move(table);
  }

  /// Counted as sixteenths: these loops run that much faster than others.
  double work(const TileContext&, TileShape in) const override {
    if (width_ == 0) return 0;
    const auto width = static_cast<std::uint32_t>(std::min<std::uint64_t>(width_, in.cols));
    std::uint32_t runs = 0;
    for (std::uint32_t at = 0; at < in.rows; at = run_end(at, in.rows, width, growth_)) ++runs;
    const double products = repeats_ == kNoRepeats ? 2 : 3;
    return static_cast<double>(in.cols) * width * (products * in.rows + 3.0 * runs * width) / 16;
  }

  void encode(Tile& tile, EncodeContext& to) const override {
    const TileShape shape = tile.shape;
    const RepeatRows repeats = repeat_rows(*tile.context, shape);
    Side side;
    std::vector<float> x = measure(tile, side);
    const std::vector<Channels> parts = parts_of(*tile.context, shape);
    const std::vector<std::uint32_t> spans = spans_of(parts, shape);
    side.gains = AdaptGains{step_, gamma_, level_, heads_}.choose(tile, x, repeats, spans);
    pass_side(to.out, shape, spans, side);
    AdaptCodes codes(shape, repeats);
    codes.make_room();
    Buffer<float> approximation(to.wanted ? x.size() : 0);
    for (const Channels part : parts) {
      const std::size_t width = part.width();
      const std::vector<float> steps = steps_of(side.gains, part);
      const auto begin = [&](Run run, AdaptBasis& basis, float* z) {
        basis.project(x.data() + std::size_t{run.first} * shape.cols + part.first, shape.cols, run.size(), z);
      };
      const auto code = [&](Run run, float* z, const float* predicted) {
        if (predicted != nullptr) kernels::add_multiple(predicted, width, -1, z);
        const kernels::CellRows rows{run.size(), width, part.first, steps.data() + run.first};
        kernels::to_cells(rows, z, static_cast<float>(round_), static_cast<float>(kLargestMagnitude),
                          codes.rows(run.first));
        dequantise(rows, codes.rows(run.first), z);
        if (predicted != nullptr) kernels::add_multiple(predicted, width, 1, z);
      };
      const auto end = [&](Run run, const float* rows) {
        for (std::size_t r = run.first; r < run.last; ++r, rows += width) {
          std::copy_n(rows, width, approximation.data() + r * shape.cols + part.first);
        }
      };
      code_part(shape, part, repeats, to.wanted, begin, code, end);
    }
    codes.pass(to.out, side.gains);
    if (to.wanted) subtract(tile, side, approximation);
  }

  void decode(Tile& tile, TileShape shape, DecodeContext& from) const override {
    const RepeatRows repeats = repeat_rows(*tile.context, shape);
    const std::vector<Channels> parts = parts_of(*tile.context, shape);
    Side side;
    pass_side(from.in, shape, spans_of(parts, shape), side);
    AdaptCodes codes(shape, repeats);
    codes.pass(from.in, side.gains);
    for (const Channels part : parts) {
      const std::size_t width = part.width();
      const std::vector<float> steps = steps_of(side.gains, part);
      const auto begin = [&](Run run, AdaptBasis&, float* z) {
        dequantise({run.size(), width, part.first, steps.data() + run.first}, codes.rows(run.first), z);
      };
      const auto code = [&](Run, float* z, const float* predicted) {
        if (predicted != nullptr) kernels::add_multiple(predicted, width, 1, z);
      };
      const auto end = [&](Run run, const float* rows) {
        kernels::scale_rows(rows, run.size(), width, side.rms, side.mean.data() + part.first, from.blank,
                            tile.row(run.first) + part.first, shape.cols);
      };
      code_part(shape, part, repeats, true, begin, code, end);
    }
  }

 private:
  struct Side {
    float rms = 1;
    std::vector<float> mean;  // one a channel
    RowGains gains;
  };

  struct Channels {
    std::uint32_t first, last;  // the one after
    std::size_t width() const { return last - first; }
  };
  struct Run {
    std::uint32_t first, last;  // rows; the one after
    std::size_t size() const { return last - first; }
  };

  RepeatRows repeat_rows(const TileContext& context, TileShape shape) const {
    if (repeats_ != kNoRepeats && repeats_ != kDumpTable && table_ == nullptr) fail_without_table("adapt", repeats_);
    return {table_ == nullptr ? ByteView() : ByteView(table_->bytes), context, shape};
  }

  void pass_side(StreamPort& port, TileShape shape, const std::vector<std::uint32_t>& spans, Side& side) const {
    auto bits = std::bit_cast<std::uint32_t>(side.rms);
    pass_integer(port, StreamLabel::scales, bits);
    side.rms = std::bit_cast<float>(bits);
    if (!(side.rms >= kLeastRms && side.rms <= kLargestRms))
      fail(ErrorCode::corrupt, "a root mean square of {}", side.rms);
    const float step = step_of(step_, mean_gain(shape.rows)) * side.rms;
    Buffer<std::int16_t> means;
    for (const float m : side.mean) means.push_back(whole(m / step));
    pass_magnitudes(port, 1, shape.cols, {}, means);
    side.mean.clear();
    for (const std::int16_t m : means) side.mean.push_back(static_cast<float>(m) * step);
    pass_adapt_gains(port, shape, spans, side.gains);
  }
  /// The columns that may have gains of their own.
  std::vector<std::uint32_t> spans_of(const std::vector<Channels>& parts, TileShape shape) const {
    if (heads_ == 0 || parts.empty()) return {shape.cols};
    std::vector<std::uint32_t> spans;
    for (const Channels part : parts) spans.push_back(part.last);
    return spans;
  }

  /// Of each row in the part.
  std::vector<float> steps_of(const RowGains& gains, Channels part) const {
    const auto at = std::lower_bound(gains.spans.begin(), gains.spans.end(), part.last) - gains.spans.begin();
    std::vector<float> steps;
    for (std::size_t i = static_cast<std::size_t>(at); i < gains.values.size(); i += gains.spans.size())
      steps.push_back(step_of(step_, gains.values[i]));
    return steps;
  }

  static std::int16_t whole(float x) {
    const auto most = static_cast<float>(kLargestMagnitude);
    return static_cast<std::int16_t>(std::nearbyint(std::clamp(x, -most, most)));
  }

  /// Means, the root mean square of an ordinary token, and the values in these terms.
  std::vector<float> measure(const Tile& tile, Side& side) const {
    const std::size_t rows = tile.shape.rows, cols = tile.shape.cols;
    std::vector<double> sum(cols), energy(rows);
    for (std::size_t r = 0; r < rows; ++r) {
      for (std::size_t c = 0; c < cols; ++c) sum[c] += tile.row(r)[c];
    }
    for (std::size_t c = 0; c < cols; ++c)
      side.mean.push_back(static_cast<float>(rows == 0 ? 0 : sum[c] / static_cast<double>(rows)));
    for (std::size_t r = 0; r < rows; r += kTogether) add_energies(tile, r, side.mean, energy);
    // The median, so that a few tokens unlike the others do not set everyone's steps.
    if (rows > 0) {
      std::nth_element(energy.begin(), energy.begin() + static_cast<std::ptrdiff_t>(rows / 2), energy.end());
      const double middle = std::sqrt(energy[rows / 2] / static_cast<double>(std::max<std::size_t>(cols, 1)));
      side.rms = usable(middle > 0 ? middle : root_mean_square(side.mean));
    }
    if (rows < kFewRows) drop_means(tile, side);
    // What is coded is the difference to the means as a reader will see them.
    const float step = step_of(step_, mean_gain(tile.shape.rows)) * side.rms;
    std::vector<float> means, x(rows * cols);
    for (const float m : side.mean) means.push_back(static_cast<float>(whole(m / step)) * step);
    for (std::size_t r = 0; r < rows; ++r) {
      const float* row = tile.row(r);
      for (std::size_t c = 0; c < cols; ++c) {
        x[r * cols + c] = std::clamp((row[c] - means[c]) / side.rms, -kMostValue, kMostValue);
      }
    }
    return x;
  }

  /// Sets means to 0 that take more than they save, by the logarithms of all that is coded.
  void drop_means(const Tile& tile, Side& side) const {
    constexpr double kOddOne = 2;  // what a mean among zeros takes to be told apart
    const double step = step_ * side.rms, of_mean = double{step_of(step_, mean_gain(tile.shape.rows))} * side.rms;
    for (std::size_t c = 0; c < side.mean.size(); ++c) {
      double with = portable::log(1 + std::fabs(side.mean[c]) / of_mean), without = 0;
      for (std::size_t r = 0; r < tile.shape.rows; ++r) {
        const double x = tile.row(r)[c];
        with += portable::log(1 + std::fabs(x - side.mean[c]) / step);
        without += portable::log(1 + std::fabs(x) / step);
      }
      if (without <= with + kOddOne) side.mean[c] = 0;
    }
  }

  static constexpr std::size_t kTogether = 8;
  /// Of kTogether rows from r on, or what is left: each one's sum waits for its last addition, but not for the others'.
  static void add_energies(const Tile& tile, std::size_t r, const std::vector<float>& mean,
                           std::vector<double>& energy) {
    const std::size_t some = std::min(kTogether, tile.shape.rows - r);
    const float* rows[kTogether];
    double sums[kTogether] = {};
    for (std::size_t i = 0; i < kTogether; ++i) rows[i] = tile.row(r + std::min(i, some - 1));
    for (std::size_t c = 0; c < mean.size(); ++c) {
      for (std::size_t i = 0; i < kTogether; ++i) {
        const float x = rows[i][c] - mean[c];
        sums[i] += double{x} * x;
      }
    }
    std::copy_n(sums, some, energy.begin() + static_cast<std::ptrdiff_t>(r));
  }

  static double root_mean_square(const std::vector<float>& values) {
    double energy = 0;
    for (const float v : values) energy += double{v} * v;
    return values.empty() ? 0 : std::sqrt(energy / static_cast<double>(values.size()));
  }
  static float usable(double rms) {
    return rms > 0 ? static_cast<float>(std::clamp(rms, double{kLeastRms}, double{kLargestRms})) : 1;
  }

  /// Runs of channels with a basis each: whole heads, as many as fit, or pieces of a head that is wider.
  std::vector<Channels> parts_of(const TileContext& context, TileShape shape) const {
    const auto width = static_cast<std::uint32_t>(width_ == 0 ? shape.cols : width_);
    const std::vector<std::uint32_t> edges = context.head_edges();
    const bool heads = edges.back() == shape.cols;
    std::vector<Channels> parts;
    for (std::uint32_t begin = 0; begin < shape.cols;) {
      std::uint32_t end = std::min(shape.cols, begin + width);
      if (heads && end < shape.cols) {
        const auto after = std::upper_bound(edges.begin(), edges.end(), end);
        if (*(after - 1) > begin) end = *(after - 1);
      }
      parts.push_back({begin, end});
      begin = end;
    }
    return parts;
  }

  /// A few rows at a time, which stay in the cache: `begin` may set their coefficients; `code` makes of rows what a
  /// reader will see, of one at a time where there are predictions; `end` takes their approximation, where it is
  /// wanted. The basis and the predictions learn from it.
  template <typename Begin, typename Code, typename End>
  void code_part(TileShape shape, Channels part, const RepeatRows& repeats, bool wanted, Begin&& begin, Code&& code,
                 End&& end) const {
    constexpr std::uint32_t kRows = 128;
    const auto width = static_cast<std::uint32_t>(part.width());
    AdaptBasis basis(width, static_cast<float>(step_ * step_ / 12));
    RepeatPredictor predictor(repeats, width);
    Buffer<float> z(std::size_t{std::min(kRows, shape.rows)} * width), rows(z.size());
    std::vector<std::uint8_t> usual;
    const bool predicts = repeats.contexts != 0;
    for (std::uint32_t from = 0; from < shape.rows;) {
      const std::uint32_t to = run_end(from, shape.rows, width, growth_);
      const bool learns = width_ != 0 && to < shape.rows;
      if (predicts) predictor.begin_run(from, to, basis);
      for (std::uint32_t first = from; first < to; first += kRows) {
        const Run some{first, std::min(to, first + kRows)};
        usual.assign(some.last - first, 0);
        begin(some, basis, z.data());
        for (std::uint32_t r = first; predicts && r < some.last; ++r) {
          float* row = z.data() + std::size_t{r - first} * width;
          code({r, r + 1}, row, predictor.predict(r));
          usual[r - first] = is_usual(row, width) ? 1 : 0;
          if (usual[r - first] != 0) predictor.learn(r, row);
        }
        if (!predicts) code(some, z.data(), nullptr);
        if (!predicts && learns) mark_usual(z.data(), width, usual);
        if (wanted || predicts) basis.combine(z.data(), some.last - first, rows.data());
        if (predicts) predictor.add_rows(first, rows.data(), usual);
        if (wanted) end(some, rows.data());
        if (learns) basis.observe(z.data(), usual);
      }
      if (learns) basis.refresh();
      from = to;
    }
  }

  void dequantise(const kernels::CellRows& rows, std::int16_t* const* codes, float* z) const {
    kernels::from_cells(rows, codes, static_cast<float>(0.5 - round_), z);
  }

  static void subtract(Tile& tile, const Side& side, const Buffer<float>& approximation) {
    std::vector<float> row(tile.shape.cols);
    for (std::size_t r = 0; r < tile.shape.rows; ++r) {
      const float* a = approximation.data() + r * row.size();
      for (std::size_t c = 0; c < row.size(); ++c) row[c] = a[c] * side.rms + side.mean[c];
      tile.subtract_row(r, row);
    }
  }

  double step_ = 0.5, round_ = 0.4, gamma_ = 0.6, level_ = 0.85, growth_ = 0.5, heads_ = 0;
  std::uint64_t width_ = 256;
  static constexpr std::string_view kNoRepeats = "none";
  std::string repeats_{kNoRepeats};
  std::shared_ptr<const Table> table_;
};

}  // namespace

std::unique_ptr<Stage> make_adapt() {
  return std::make_unique<Adapt>();
}

}  // namespace kvzip
