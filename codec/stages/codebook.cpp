// SPDX-License-Identifier: Apache-2.0
// Vectors, the channels of one token in one head, as a length and one code per channel: the nearest level of the
// quantiser that is best for normal variables, for x sqrt(D) / |x| (TurboQuant, arXiv 2504.19874, algorithm 1; by its
// lemma 1 the coordinates of a randomly rotated vector of length 1 are nearly N(0, 1 / D)).
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "codec/fail.hpp"
#include "codec/kernels/codewords.hpp"
#include "codec/kernels/rows.hpp"
#include "codec/side.hpp"
#include "codec/stages/lloyd_max.hpp"
#include "codec/stages/stages.hpp"

namespace kvzip {
namespace {

/// The levels above 0 of 2, 4, 8, 16 and 32, one after the other.
constexpr std::array<float, 31> kUpperLevels{
    0.797884583f,                                                                                       // 2
    0.452780038f,  1.51041758f,                                                                         // 4
    0.24509418f,   0.756005287f, 1.34390926f,  2.15194559f,                                             // 8
    0.128395036f,  0.388048291f, 0.656759143f, 0.942340434f, 1.25623119f,  1.6180464f,   2.06901717f,   //
    2.73258948f,                                                                                        // 16
    0.0658896565f, 0.198051825f, 0.331378311f, 0.466699511f, 0.604933619f, 0.747135699f, 0.894565105f,  //
    1.0487833f,    1.21180439f,  1.38634038f,  1.57622802f,  1.78723323f,  2.02872849f,  2.31773949f,   //
    2.69111967f,   3.26073241f};                                                                        // 32

}  // namespace

std::vector<float> lloyd_max_levels(unsigned bits) {
  const std::size_t half = std::size_t{1} << (bits - 1);
  std::vector<float> levels(2 * half);
  for (std::size_t i = 0; i < half; ++i) {
    levels[half + i] = kUpperLevels[half - 1 + i];
    levels[half - 1 - i] = -levels[half + i];
  }
  return levels;
}

namespace {

class Codebook final : public Cloned<Codebook, Stage> {
 public:
  StageKind kind() const override { return StageKind::additive; }
  bool begins() const override { return true; }

  void fields(FieldVisitor& v) override {
    v.integer("bits", bits_, 1, kMostCodebookBits, "bits of a code");
    v.choice("scale", format_, kNumberFormatNames, "format of the vectors' lengths");
  }

  TileShape output(const TileContext& context, TileShape in) const override {
    if (in.cols != context.channels()) fail(ErrorCode::invalid_argument, "codebook: a tile without whole heads");
    return in;
  }

  void encode(Tile& tile, EncodeContext& to) const override {
    const std::vector<std::uint32_t> edges = head_edges(*tile.context);
    const std::size_t heads = edges.size() - 1;
    std::vector<float> lengths = measure(tile, edges);
    Stream codes = pass_lengths(to.out, *tile.context, tile.shape, heads, lengths);
    codes.allocate();
    const std::vector<float> levels = lloyd_max_levels(static_cast<unsigned>(bits_));
    std::vector<float> scaled(levels.size()), bounds(levels.size() - 1), approximation(tile.shape.cols);
    to.finite = true;
    for (std::size_t r = 0; r < tile.shape.rows; ++r) {
      for (std::size_t h = 0; h < heads; ++h) {
        const std::size_t first = edges[h], dim = edges[h + 1] - first;
        scale(levels, unit_of(lengths[r * heads + h], dim), scaled);
        for (std::size_t i = 0; i < bounds.size(); ++i) bounds[i] = 0.5f * scaled[i] + 0.5f * scaled[i + 1];
        std::uint8_t* code = codes.data.data() + r * tile.shape.cols + first;
        kernels::nearest_entries(tile.row(r) + first, dim, bounds.data(), bounds.size(), code);
        if (to.wanted) kernels::entry_values(code, dim, scaled.data(), approximation.data() + first);
      }
      if (!to.wanted) continue;
      tile.subtract_row(r, approximation);
      to.finite = to.finite && kernels::all_finite(tile.row(r), tile.shape.cols);
    }
    to.out.pass(codes);
  }

  void decode(Tile& tile, TileShape in, DecodeContext& from) const override {
    const std::vector<std::uint32_t> edges = head_edges(*tile.context);
    const std::size_t heads = edges.size() - 1;
    std::vector<float> lengths;
    Stream codes = pass_lengths(from.in, *tile.context, in, heads, lengths);
    from.in.get(codes);
    const std::vector<float> levels = lloyd_max_levels(static_cast<unsigned>(bits_));
    std::vector<float> scaled(levels.size());
    const auto decode_head = from.blank ? kernels::entry_values : kernels::entry_values_add;
    for (std::size_t r = 0; r < in.rows; ++r) {
      for (std::size_t h = 0; h < heads; ++h) {
        const std::size_t first = edges[h], dim = edges[h + 1] - first;
        scale(levels, unit_of(lengths[r * heads + h], dim), scaled);
        decode_head(codes.data.data() + r * in.cols + first, dim, scaled.data(), tile.row(r) + first);
      }
    }
  }

 private:
  /// Heads without channels have no vectors.
  static std::vector<std::uint32_t> head_edges(const TileContext& context) {
    return context.channels() == 0 ? std::vector<std::uint32_t>{0} : context.head_edges();
  }
  /// |x| / sqrt(D): what a level of 1 stands for.
  static float unit_of(float length, std::size_t dim) {
    return static_cast<float>(double{length} / std::sqrt(static_cast<double>(dim)));
  }
  static void scale(const std::vector<float>& levels, float unit, std::vector<float>& scaled) {
    for (std::size_t i = 0; i < levels.size(); ++i) scaled[i] = levels[i] * unit;
  }

  static std::vector<float> measure(const Tile& tile, const std::vector<std::uint32_t>& edges) {
    const std::size_t heads = edges.size() - 1;
    std::vector<float> lengths(tile.shape.rows * heads);
    for (std::size_t i = 0; i < lengths.size(); ++i) {
      const float* row = tile.row(i / heads);
      double sum = 0;
      for (std::size_t c = edges[i % heads]; c < edges[i % heads + 1]; ++c) sum += double{row[c]} * row[c];
      lengths[i] = static_cast<float>(std::min(std::sqrt(sum), double{std::numeric_limits<float>::max()}));
    }
    return lengths;
  }

  /// The streams: the vectors' lengths, then the codes, which are returned.
  Stream pass_lengths(StreamPort& port, const TileContext& context, TileShape shape, std::size_t heads,
                      std::vector<float>& lengths) const {
    pass_numbers(port, {StreamLabel::scales, shape.rows, static_cast<std::uint32_t>(heads)}, format_, context.source,
                 lengths);
    return code_stream(context, shape, std::uint64_t{1} << bits_);
  }

  std::uint64_t bits_ = 4;
  NumberFormat format_ = NumberFormat::f16;
};

}  // namespace

std::unique_ptr<Stage> make_codebook() {
  return std::make_unique<Codebook>();
}

}  // namespace kvzip
