// SPDX-License-Identifier: Apache-2.0
// Sparse outliers stored exactly, as GEAR (arXiv 2403.05527 section 3, S = Filter(X)): of each vector the floor(n s /
// 2) smallest and as many largest values, for keys along the tokens of a channel, for values along the channels of a
// token. The place of an outlier takes the mean of its vector, so that it widens no quantisation range. GEAR's released
// code draws the count for keys from the channel count instead of the vector's length; the paper's per-vector share is
// used here.
#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <numeric>
#include <span>

#include "codec/side.hpp"
#include "codec/stages/stages.hpp"
#include "kvzip/error.hpp"

namespace kvzip {
namespace {

enum class Axis : std::uint8_t { channel, token, tile };
enum class Select : std::uint8_t { ends, magnitude };

class Outliers final : public Stage {
 public:
  StageKind kind() const override { return StageKind::elements; }

  void fields(FieldVisitor& v) override {
    static constexpr std::array<std::string_view, 3> kAxes{"channel", "token", "tile"};
    static constexpr std::array<std::string_view, 2> kSelects{"ends", "magnitude"};
    v.real("share", share_, 0, 0.5, "share of each vector's values");
    v.integer("count", count_, 0, 1u << 20, "values per vector, instead of a share", "share");
    v.choice("axis", axis_, kAxes, "a vector is one channel's tokens, one token's channels, or the whole tile");
    v.choice("select", select_, kSelects, "ends: half smallest, half largest; magnitude: largest absolute values");
  }

  void encode(Tile& tile, StreamWriter& out) const override {
    const Vectors v = vectors(tile.shape);
    Stream positions = position_stream(v);
    std::vector<float> values;
    values.reserve(std::size_t{v.count} * v.taken);
    if (tile.taken.empty()) tile.taken.resize(tile.values.size());
    std::vector<std::uint32_t> chosen;
    // Vectors that lie along the rows are gathered several at a time, so that each row is touched once for all of them.
    const std::uint32_t together = v.stride == 1 ? 1 : 16;
    std::vector<float> block(std::size_t{together} * v.length);
    for (std::uint32_t first = 0; first < v.count; first += together) {
      const std::uint32_t lanes = std::min(together, v.count - first);
      const float* source = tile.values.data() + first * v.step;
      for (std::size_t j = 0; j < v.length; ++j) {
        for (std::size_t i = 0; i < lanes; ++i) block[i * v.length + j] = source[j * v.stride + i * v.step];
      }
      for (std::uint32_t i = 0; i < lanes; ++i) {
        const std::span<const float> vector(block.data() + std::size_t{i} * v.length, v.length);
        choose(vector, v.taken, chosen);
        const double sum = std::accumulate(vector.begin(), vector.end(), 0.0);
        const auto filler = static_cast<float>(v.length == 0 ? 0 : sum / v.length);
        const std::size_t base = (first + i) * v.step;
        for (const std::uint32_t j : chosen) {
          values.push_back(vector[j]);
          positions.positions.push_back(j);
          tile.values[base + j * v.stride] = filler;
          tile.taken[base + j * v.stride] = 1;
        }
      }
    }
    out.put(std::move(positions));
    out.put(source_stream(StreamLabel::outliers, values, v.count, v.taken, tile.context->source));
  }

  void decode(Tile& tile, TileShape in, StreamReader& streams) const override {
    const Vectors v = vectors(in);
    Stream positions = position_stream(v);
    streams.get(positions);
    const std::vector<float> values =
        get_source(streams, StreamLabel::outliers, v.count, v.taken, tile.context->source);
    for (std::uint32_t i = 0; i < v.count; ++i) {
      float* base = tile.values.data() + i * v.step;
      for (std::uint32_t k = 0; k < v.taken; ++k) {
        const std::size_t at = std::size_t{i} * v.taken + k;
        base[positions.positions[at] * v.stride] = values[at];
      }
    }
  }

 private:
  /// `count` vectors of `length` values; `taken` of each are outliers.
  struct Vectors {
    std::uint32_t count, length, taken;
    std::size_t step, stride;
  };
  Vectors vectors(TileShape shape) const {
    Vectors v{};
    switch (axis_) {
      case Axis::channel:
        v = {shape.cols, shape.rows, 0, 1, shape.cols};
        break;
      case Axis::token:
        v = {shape.rows, shape.cols, 0, shape.cols, 1};
        break;
      case Axis::tile:
        v = {1, static_cast<std::uint32_t>(std::size_t{shape.rows} * shape.cols), 0, 0, 1};
        break;
    }
    const double wanted = count_ != 0 ? static_cast<double>(count_) : static_cast<double>(v.length) * share_;
    const double most = std::min(wanted, static_cast<double>(v.length));
    v.taken = select_ == Select::ends ? 2 * static_cast<std::uint32_t>(most / 2) : static_cast<std::uint32_t>(most);
    return v;
  }
  static Stream position_stream(const Vectors& v) {
    Stream s;
    s.label = StreamLabel::positions;
    s.type = StreamType::positions;
    s.alphabet = v.length;
    s.rows = v.count;
    s.cols = v.taken;
    return s;
  }
  /// Ascending indices of the values to take; of equal values the earlier ones.
  void choose(std::span<const float> vector, std::uint32_t taken, std::vector<std::uint32_t>& chosen) const {
    chosen.clear();
    if (taken == 0) return;
    std::vector<float> sorted(vector.begin(), vector.end());
    const auto end = [&](std::size_t n) { return sorted.begin() + static_cast<std::ptrdiff_t>(n); };
    if (select_ == Select::magnitude) {
      for (float& x : sorted) x = std::fabs(x);
      std::nth_element(sorted.begin(), end(taken - 1), sorted.end(), std::greater<>());
      const float least = sorted[taken - 1];
      std::size_t ties = taken - static_cast<std::size_t>(std::count_if(vector.begin(), vector.end(),
                                                                        [&](float x) { return std::fabs(x) > least; }));
      for (std::uint32_t j = 0; j < vector.size(); ++j) {
        const float x = std::fabs(vector[j]);
        if (x > least || (x == least && ties > 0 && ties-- > 0)) chosen.push_back(j);
      }
      return;
    }
    // Half of them from each end; the largest are sought behind the smallest, so that no value is taken twice.
    const std::size_t half = taken / 2, n = vector.size();
    std::nth_element(sorted.begin(), end(half - 1), sorted.end());
    const float low = sorted[half - 1];
    std::nth_element(end(half), end(n - half), sorted.end());
    const float high = sorted[n - half];
    std::size_t low_ties = half, high_ties = half;
    for (const float x : vector) {
      low_ties -= x < low;
      high_ties -= x > high;
    }
    for (std::uint32_t j = 0; j < n; ++j) {
      const float x = vector[j];
      const bool low_end = x < low || (x == low && low_ties > 0 && low_ties-- > 0);
      if (low_end || x > high || (x == high && high_ties > 0 && high_ties-- > 0)) chosen.push_back(j);
    }
  }

  double share_ = 0.02;
  std::uint64_t count_ = 0;
  Axis axis_ = Axis::channel;
  Select select_ = Select::ends;
};

}  // namespace

std::unique_ptr<Stage> make_outliers() {
  return std::make_unique<Outliers>();
}

}  // namespace kvzip
