// SPDX-License-Identifier: Apache-2.0
// Sparse outliers stored exactly, as GEAR (arXiv 2403.05527 section 3, S = Filter(X)): of each vector the floor(n s /
// 2) smallest and as many largest values, for keys along the tokens of a channel, for values along the channels of a
// token. The place of an outlier takes the mean of its vector, so that it widens no quantisation range. GEAR's released
// code draws the count for keys from the channel count instead of the vector's length; the paper's per-vector share is
// used here.
#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

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
    std::vector<float> vector(v.length);
    for (std::uint32_t i = 0; i < v.count; ++i) {
      float* base = tile.values.data() + i * v.step;
      for (std::uint32_t j = 0; j < v.length; ++j) vector[j] = base[j * v.stride];
      choose(vector, v.taken, chosen);
      const double sum = std::accumulate(vector.begin(), vector.end(), 0.0);
      const auto filler = static_cast<float>(v.length == 0 ? 0 : sum / v.length);
      for (const std::uint32_t j : chosen) {
        values.push_back(vector[j]);
        positions.positions.push_back(j);
        base[j * v.stride] = filler;
        tile.taken[static_cast<std::size_t>(base - tile.values.data()) + j * v.stride] = 1;
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
  void choose(const std::vector<float>& vector, std::uint32_t taken, std::vector<std::uint32_t>& chosen) const {
    chosen.resize(vector.size());
    std::iota(chosen.begin(), chosen.end(), 0u);
    const auto at = [&](std::size_t n) { return chosen.begin() + static_cast<std::ptrdiff_t>(n); };
    if (select_ == Select::magnitude) {
      std::nth_element(chosen.begin(), at(taken), chosen.end(), [&](std::uint32_t a, std::uint32_t b) {
        const float x = std::fabs(vector[a]), y = std::fabs(vector[b]);
        return x != y ? x > y : a < b;
      });
      chosen.resize(taken);
    } else {
      const std::size_t half = taken / 2;
      std::nth_element(chosen.begin(), at(half), chosen.end(), [&](std::uint32_t a, std::uint32_t b) {
        return vector[a] != vector[b] ? vector[a] < vector[b] : a < b;
      });
      std::nth_element(at(half), at(taken), chosen.end(), [&](std::uint32_t a, std::uint32_t b) {
        return vector[a] != vector[b] ? vector[a] > vector[b] : a < b;
      });
      chosen.resize(taken);
    }
    std::sort(chosen.begin(), chosen.end());
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
