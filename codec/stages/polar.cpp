// SPDX-License-Identifier: Apache-2.0
// Polar coordinates (PolarQuant, arXiv 2502.02617): 16 channels of a head as one radius and 15 angles. Pairs of
// channels become a radius and an angle, pairs of radii again, four times. After a random rotation the angles have
// known laws: the first ones are uniform, those of level l have a density like sin(2 a)^(2^(l - 1) - 1); their codes
// are those of the best quantiser for that law, and no scale is stored.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "codec/fail.hpp"
#include "codec/limits.hpp"
#include "codec/portable_math.hpp"
#include "codec/side.hpp"
#include "codec/stages/stages.hpp"

namespace kvzip {
namespace {

constexpr std::size_t kBlock = 16, kPairs = kBlock / 2, kHigher = kBlock - 1 - kPairs;
constexpr double kQuarter = 1.5707963267948966;

/// Of levels 2, 3 and 4 the lower two of four angles; the others mirror them around an eighth of a turn.
constexpr std::array<std::array<double, 2>, 3> kAngles{
    {{0.309756106, 0.633980237}, {0.426249681, 0.674384994}, {0.524214068, 0.705909399}}};

struct Direction {
  float x, y;
};
using Directions = std::vector<Direction>;

Direction direction(double angle) {
  const auto [s, c] = portable::sincos(angle);
  return {static_cast<float>(c), static_cast<float>(s)};
}

/// What the codes of each level stand for, level 1 first.
std::array<Directions, 4> make_directions(std::uint64_t bits) {
  std::array<Directions, 4> all;
  const std::size_t count = std::size_t{1} << bits;
  for (std::size_t i = 0; i < count; ++i) {
    all[0].push_back(direction(4 * kQuarter * (static_cast<double>(i) + 0.5) / static_cast<double>(count)));
  }
  for (std::size_t l = 0; l < kAngles.size(); ++l) {
    const auto [a, b] = kAngles[l];
    for (const double angle : {a, b, kQuarter - b, kQuarter - a}) all[l + 1].push_back(direction(angle));
  }
  return all;
}

/// The direction nearest to (x, y): the one of the largest product, of equal ones the first.
std::uint8_t nearest(const Directions& directions, double x, double y) {
  std::size_t best = 0;
  double most = -std::numeric_limits<double>::infinity();
  for (std::size_t i = 0; i < directions.size(); ++i) {
    const double product = x * directions[i].x + y * directions[i].y;
    if (product > most) most = product, best = i;
  }
  return static_cast<std::uint8_t>(best);
}

class Polar final : public Cloned<Polar, Stage> {
 public:
  StageKind kind() const override { return StageKind::additive; }

  void fields(FieldVisitor& v) override {
    v.integer("bits", bits_, 1, 8, "bits of an angle of the first level; the others have 2");
    v.choice("scale", format_, kNumberFormatNames, "format of the radii");
  }

  TileShape output(const TileContext& context, TileShape in) const override {
    if (in.cols != context.channels()) fail(ErrorCode::invalid_argument, "polar: a tile without whole heads");
    std::uint64_t filled = 0;  // channels, with those that fill blocks: of narrow heads many times the tile's
    for (const HeadRun& run : context.head_runs()) {
      filled += run.heads * ((std::uint64_t{run.head_dim} + kBlock - 1) / kBlock * kBlock);
    }
    if (filled != 0 && in.rows > limits::kFrameValues / filled) fail(ErrorCode::limit, "polar: too many blocks");
    return in;
  }

  void encode(Tile& tile, EncodeContext& to) const override {
    const Blocks blocks = make_blocks(*tile.context, tile.shape.cols);
    const auto directions = make_directions(bits_);
    Codes codes = streams(tile.shape, blocks);
    codes.first.allocate();
    codes.higher.allocate();
    std::vector<float> radii(std::size_t{tile.shape.rows} * blocks.size());
    for (std::size_t i = 0; i < radii.size(); ++i) {
      const Block block = blocks[i % blocks.size()];
      radii[i] = encode_block(directions, tile.row(i / blocks.size()) + block.first, block.width,
                              codes.first.data.data() + i * kPairs, codes.higher.data.data() + i * kHigher);
    }
    pass_radii(to.out, *tile.context, tile.shape, blocks, radii);
    std::vector<float> approximation(tile.shape.cols);
    for (std::size_t r = 0; to.wanted && r < tile.shape.rows; ++r) {
      std::fill(approximation.begin(), approximation.end(), 0.0f);
      add_row(blocks, directions, radii, codes, r, approximation.data());
      tile.subtract_row(r, approximation);
    }
    to.out.pass(codes.first);
    to.out.pass(codes.higher);
  }

  void decode(Tile& tile, TileShape in, DecodeContext& from) const override {
    const Blocks blocks = make_blocks(*tile.context, in.cols);
    const auto directions = make_directions(bits_);
    std::vector<float> radii;
    pass_radii(from.in, *tile.context, in, blocks, radii);
    Codes codes = streams(in, blocks);
    from.in.get(codes.first);
    from.in.get(codes.higher);
    for (std::size_t r = 0; r < in.rows; ++r) add_row(blocks, directions, radii, codes, r, tile.row(r));
  }

 private:
  /// Up to 16 channels; a shorter one is filled up with zeros.
  struct Block {
    std::uint32_t first, width;
  };
  using Blocks = std::vector<Block>;
  struct Codes {
    Stream first, higher;
  };

  static Blocks make_blocks(const TileContext& context, std::uint32_t cols) {
    Blocks blocks;
    const std::vector<std::uint32_t> edges = cols == 0 ? std::vector<std::uint32_t>{0} : context.head_edges();
    for (std::size_t h = 0; h + 1 < edges.size(); ++h) {
      for (std::uint64_t c = edges[h]; c < edges[h + 1]; c += kBlock) {
        const auto width = std::min<std::uint64_t>(kBlock, edges[h + 1] - c);
        blocks.push_back({static_cast<std::uint32_t>(c), static_cast<std::uint32_t>(width)});
      }
    }
    return blocks;
  }

  /// Codes of the higher levels lie side by side: 4 of level 2, 2 of level 3, 1 of level 4.
  static float encode_block(const std::array<Directions, 4>& directions, const float* x, std::size_t width,
                            std::uint8_t* first, std::uint8_t* higher) {
    std::array<double, kBlock> v{};
    std::copy_n(x, width, v.begin());
    std::uint8_t* code = first;
    for (std::size_t level = 0, pairs = kPairs; level < directions.size(); ++level, pairs /= 2) {
      for (std::size_t i = 0; i < pairs; ++i) {
        code[i] = nearest(directions[level], v[2 * i], v[2 * i + 1]);
        v[i] = std::sqrt(v[2 * i] * v[2 * i] + v[2 * i + 1] * v[2 * i + 1]);
      }
      code = level == 0 ? higher : code + pairs;
    }
    return static_cast<float>(std::min(v[0], double{std::numeric_limits<float>::max()}));
  }

  static void add_row(const Blocks& blocks, const std::array<Directions, 4>& directions,
                      const std::vector<float>& radii, const Codes& codes, std::size_t row, float* x) {
    constexpr std::array<std::size_t, 4> kFirstCode{0, 0, 4, 6};
    std::array<float, kBlock> v;
    for (std::size_t b = 0; b < blocks.size(); ++b) {
      const std::size_t at = row * blocks.size() + b;
      v[0] = radii[at];
      for (std::size_t level = directions.size(); level-- > 0;) {
        const std::size_t pairs = kPairs >> level;
        const std::uint8_t* code = level == 0 ? codes.first.data.data() + at * kPairs
                                              : codes.higher.data.data() + at * kHigher + kFirstCode[level];
        for (std::size_t i = pairs; i-- > 0;) {
          const Direction d = directions[level][code[i]];
          const float radius = v[i];
          v[2 * i] = radius * d.x;
          v[2 * i + 1] = radius * d.y;
        }
      }
      for (std::size_t i = 0; i < blocks[b].width; ++i) x[blocks[b].first + i] += v[i];
    }
  }

  // The streams: radii, codes of level 1, codes of the others.
  void pass_radii(StreamPort& port, const TileContext& context, TileShape shape, const Blocks& blocks,
                  std::vector<float>& radii) const {
    pass_numbers(port, {StreamLabel::scales, shape.rows, static_cast<std::uint32_t>(blocks.size())}, format_,
                 context.source, radii);
  }
  Codes streams(TileShape shape, const Blocks& blocks) const {
    const auto count = static_cast<std::uint32_t>(blocks.size());
    return {symbol_stream(StreamLabel::codes, shape.rows, count * std::uint32_t{kPairs}, std::uint64_t{1} << bits_),
            symbol_stream(StreamLabel::codes, shape.rows, count * std::uint32_t{kHigher}, 4)};
  }

  std::uint64_t bits_ = 4;
  NumberFormat format_ = NumberFormat::f16;
};

}  // namespace

std::unique_ptr<Stage> make_polar() {
  return std::make_unique<Polar>();
}

}  // namespace kvzip
