// SPDX-License-Identifier: Apache-2.0
// Channels of similar range quantised together: SKVQ (arXiv 2405.06219 section 3). Channels are clustered by the least
// and the largest of their values; a token has one clipped range for each cluster. The paper clusters and clips on
// calibration text; here it is done on the tile, and the clusters are stored with it. Codes stay where their channels
// are, so that no order needs storing.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <tuple>

#include "codec/side.hpp"
#include "codec/stages/stages.hpp"

namespace kvzip {
namespace {

constexpr std::array<std::string_view, 5> kFormats{"f16", "bf16", "f32", "source", "e4m3"};
constexpr std::uint8_t kE4m3 = 4;       // the others are NumberFormat's
constexpr std::uint32_t kMost = 256;    // clusters
constexpr int kExponentBias = 256;      // of e4m3 numbers
constexpr std::size_t kClipSteps = 16;  // of clip=auto: 1, 0.98 and so on

float bounded(double x) {
  constexpr double kLargest = std::numeric_limits<float>::max();
  return static_cast<float>(std::clamp(x, -kLargest, kLargest));
}

struct Range {
  float low = std::numeric_limits<float>::infinity(), high = -std::numeric_limits<float>::infinity();
  bool any() const { return low <= high; }
  void add(float x) { low = std::min(low, x), high = std::max(high, x); }
};

bool taken(const Tile& tile, std::size_t r, std::size_t c) {
  return !tile.taken.empty() && tile.taken[r * tile.shape.cols + c] != 0;
}

/// A channel's place: least and largest value, 0 and 0 where it has none.
using Point = std::array<double, 2>;
double distance(const Point& a, const Point& b) {
  return (a[0] - b[0]) * (a[0] - b[0]) + (a[1] - b[1]) * (a[1] - b[1]);
}
std::vector<Point> places(const Tile& tile) {
  std::vector<Range> ranges(tile.shape.cols);
  for (std::size_t r = 0; r < tile.shape.rows; ++r) {
    for (std::size_t c = 0; c < ranges.size(); ++c) {
      if (!taken(tile, r, c)) ranges[c].add(tile.row(r)[c]);
    }
  }
  std::vector<Point> out;
  for (const Range& g : ranges) out.push_back(g.any() ? Point{g.low, g.high} : Point{0, 0});
  return out;
}

/// Lloyd's k-means, which begins with the first point and then those furthest from all before.
std::vector<std::uint8_t> cluster(const std::vector<Point>& points, std::uint32_t count) {
  constexpr int kRounds = 100;
  std::vector<std::uint8_t> nearest(points.size());
  if (points.empty()) return nearest;
  std::vector<Point> centres{points[0]};
  std::vector<double> apart(points.size(), std::numeric_limits<double>::infinity());
  while (centres.size() < count) {
    for (std::size_t i = 0; i < points.size(); ++i) apart[i] = std::min(apart[i], distance(points[i], centres.back()));
    centres.push_back(points[static_cast<std::size_t>(std::max_element(apart.begin(), apart.end()) - apart.begin())]);
  }
  for (int round = 0; round < kRounds; ++round) {
    bool moved = round == 0;
    std::vector<std::array<double, 3>> sums(count);
    for (std::size_t i = 0; i < points.size(); ++i) {
      std::size_t best = 0;
      for (std::size_t k = 1; k < count; ++k) {
        if (distance(points[i], centres[k]) < distance(points[i], centres[best])) best = k;
      }
      moved = moved || nearest[i] != best;
      nearest[i] = static_cast<std::uint8_t>(best);
      sums[best][0] += points[i][0], sums[best][1] += points[i][1], sums[best][2] += 1;
    }
    if (!moved) break;
    for (std::size_t k = 0; k < count; ++k) {
      if (sums[k][2] > 0) centres[k] = {sums[k][0] / sums[k][2], sums[k][1] / sums[k][2]};
    }
  }
  return nearest;
}

class Clusters final : public Cloned<Clusters, Stage> {
 public:
  StageKind kind() const override { return StageKind::additive; }

  void fields(FieldVisitor& v) override {
    v.integer("levels", levels_, 2, 256, "levels of a code");
    v.integer("group", group_, 1, 1u << 30, "channels per cluster, on average; there are at most 256 clusters");
    v.real("clip", clip_, 0, 1, "share of a range that is kept; auto: of each cluster what errs least", "auto");
    v.choice_index("scale", format_, kFormats, "format of scales and minima");
  }

  void encode(Tile& tile, EncodeContext& to) const override {
    const std::uint32_t count = clusters(tile.shape);
    std::vector<std::uint8_t> of = cluster(places(tile), count);
    pass_clusters(to.out, count, of);
    const std::vector<Range> ranges = measure(tile, count, of);
    const std::vector<double> clips = choose_clips(tile, ranges, count, of);
    std::vector<float> scale(ranges.size()), low(ranges.size());
    for (std::size_t i = 0; i < ranges.size(); ++i) std::tie(scale[i], low[i]) = grid(ranges[i], clips[i % count]);
    pass_numbers_of(to.out, tile, scale);
    pass_numbers_of(to.out, tile, low);
    Stream codes = code_stream(*tile.context, tile.shape, levels_);
    codes.allocate();
    std::vector<float> approximation(tile.shape.cols);
    for (std::size_t r = 0; r < tile.shape.rows; ++r) {
      std::uint8_t* q = codes.data.data() + r * tile.shape.cols;
      for (std::size_t c = 0; c < approximation.size(); ++c) {
        const std::size_t at = r * count + of[c];
        q[c] = code(tile.row(r)[c], scale[at], low[at]);
        approximation[c] = value(q[c], scale[at], low[at]);
      }
      if (to.wanted) tile.subtract_row(r, approximation);
    }
    to.out.pass(codes);
  }

  void decode(Tile& tile, TileShape in, DecodeContext& from) const override {
    const std::uint32_t count = clusters(in);
    std::vector<std::uint8_t> of(in.cols);
    pass_clusters(from.in, count, of);
    std::vector<float> scale(std::size_t{in.rows} * count), low = scale;
    pass_numbers_of(from.in, tile, scale);
    pass_numbers_of(from.in, tile, low);
    Stream codes = code_stream(*tile.context, in, levels_);
    from.in.get(codes);
    for (std::size_t r = 0; r < in.rows; ++r) {
      const std::uint8_t* q = codes.data.data() + r * in.cols;
      float* x = tile.row(r);
      for (std::size_t c = 0; c < in.cols; ++c) x[c] += value(q[c], scale[r * count + of[c]], low[r * count + of[c]]);
    }
  }

 private:
  std::uint32_t clusters(TileShape shape) const {
    const std::uint64_t wanted = (shape.cols + group_ - 1) / group_;
    return static_cast<std::uint32_t>(std::clamp<std::uint64_t>(wanted, 1, kMost));
  }

  /// Of each token's clusters, of what is not stored exactly.
  static std::vector<Range> measure(const Tile& tile, std::uint32_t count, const std::vector<std::uint8_t>& of) {
    std::vector<Range> ranges(std::size_t{tile.shape.rows} * count);
    for (std::size_t r = 0; r < tile.shape.rows; ++r) {
      for (std::size_t c = 0; c < of.size(); ++c) {
        if (!taken(tile, r, c)) ranges[r * count + of[c]].add(tile.row(r)[c]);
      }
    }
    return ranges;
  }

  /// h = a (max - min) / (n - 1), z = a min
  std::pair<float, float> grid(const Range& range, double clip) const {
    if (!range.any()) return {0.0f, 0.0f};
    const double width = double{range.high} - range.low;
    return {bounded(clip * width / static_cast<double>(levels_ - 1)), static_cast<float>(clip * range.low)};
  }
  std::uint8_t code(float x, float scale, float low) const {
    if (scale == 0) return 0;
    const double q = std::nearbyint((double{x} - low) / scale);
    return static_cast<std::uint8_t>(std::clamp(q, 0.0, static_cast<double>(levels_ - 1)));
  }
  /// In double: a range of floats can be wider than the largest one.
  static float value(std::uint8_t q, float scale, float low) { return bounded(double{scale} * q + low); }

  /// For each cluster the clip of the least squared error over the tile, of equals the largest.
  std::vector<double> choose_clips(const Tile& tile, const std::vector<Range>& ranges, std::uint32_t count,
                                   const std::vector<std::uint8_t>& of) const {
    std::vector<double> best(count, clip_ > 0 ? clip_ : 1), least(count, std::numeric_limits<double>::infinity());
    if (clip_ > 0) return best;
    std::vector<float> scale(count), low(count);
    for (std::size_t step = 0; step < kClipSteps; ++step) {
      const double clip = 1 - 0.02 * static_cast<double>(step);
      std::vector<double> error(count);
      for (std::size_t r = 0; r < tile.shape.rows; ++r) {
        for (std::size_t k = 0; k < count; ++k) std::tie(scale[k], low[k]) = grid(ranges[r * count + k], clip);
        for (std::size_t c = 0; c < of.size(); ++c) {
          if (taken(tile, r, c)) continue;
          const std::size_t k = of[c];
          const double x = tile.row(r)[c], d = x - value(code(tile.row(r)[c], scale[k], low[k]), scale[k], low[k]);
          error[k] += d * d;
        }
      }
      for (std::size_t k = 0; k < count; ++k) {
        if (error[k] < least[k]) least[k] = error[k], best[k] = clip;
      }
    }
    return best;
  }

  // The streams: each channel's cluster, scales, minima, codes.
  static void pass_clusters(StreamPort& port, std::uint32_t count, std::vector<std::uint8_t>& of) {
    Stream s = symbol_stream(StreamLabel::positions, 1, static_cast<std::uint32_t>(of.size()), count);
    if (port.writes()) s.data.insert(s.data.end(), of.begin(), of.end());
    port.pass(s);
    if (!port.writes()) of.assign(s.data.begin(), s.data.end());
  }
  void pass_numbers_of(StreamPort& port, const Tile& tile, std::vector<float>& values) const {
    const std::uint32_t count = clusters(tile.shape);
    const NumberShape shape{StreamLabel::scales, static_cast<std::uint32_t>(values.size() / count), count};
    if (format_ == kE4m3) return pass_e4m3(port, shape, values);
    pass_numbers(port, shape, static_cast<NumberFormat>(format_), tile.context->source, values);
  }

  /// E4M3 times a power of two common to all, which brings the largest below 256.
  static void pass_e4m3(StreamPort& port, NumberShape shape, std::vector<float>& values) {
    std::uint16_t stored = kExponentBias;
    float largest = 0;
    for (const float v : values) largest = std::max(largest, std::fabs(v));
    if (port.writes() && largest > 0) stored = static_cast<std::uint16_t>(std::ilogb(largest) - 7 + kExponentBias);
    pass_integer(port, StreamLabel::flags, stored);
    const int exponent = int{stored} - kExponentBias;
    Stream s = element_stream(shape.label, shape.rows, shape.cols, 1);
    if (port.writes()) {
      for (const float v : values) {
        s.data.push_back(f8_from_float(DType::f8_e4m3, static_cast<float>(std::ldexp(double{v}, -exponent))));
      }
    }
    const Buffer<std::uint8_t> written = s.data;
    port.pass(s);
    const Buffer<std::uint8_t>& codes = port.writes() ? written : s.data;
    for (std::size_t i = 0; i < values.size(); ++i) {
      values[i] = bounded(std::ldexp(double{f8_to_float(DType::f8_e4m3, codes[i])}, exponent));
    }
  }

  std::uint64_t levels_ = 4, group_ = 128;
  double clip_ = 0;
  std::uint8_t format_ = 0;
};

}  // namespace

std::unique_ptr<Stage> make_clusters() {
  return std::make_unique<Clusters>();
}

}  // namespace kvzip
