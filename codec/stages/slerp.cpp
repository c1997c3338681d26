// SPDX-License-Identifier: Apache-2.0
// Two neighbouring layers as one direction for each token and a length for each layer: MiniCache (arXiv 2405.14366
// section 4). The direction lies on the arc between those of the layers; tokens whose layers point apart are stored
// exactly.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <string>

#include "codec/fail.hpp"
#include "codec/portable_math.hpp"
#include "codec/side.hpp"
#include "codec/stages/stages.hpp"
#include "codec/stages/sub_tile.hpp"

namespace kvzip {
namespace {

constexpr std::size_t kMostGroups = 8;  // each has up to eleven streams

/// Layers that are merged, one or two: the channels of the first one, which those of the second follow.
struct Merged : HeadRun {
  Role role = Role::other;
  std::uint32_t layers = 1;
  std::uint32_t width() const { return heads * head_dim; }
};

/// Members two by two, where neighbours are alike in role and heads.
std::vector<Merged> merged_layers(const TileContext& context) {
  std::vector<TileMember> members = context.members;
  if (members.empty()) members.push_back({{0, context.heads, context.head_dim}, context.role, context.layer});
  std::vector<Merged> out;
  for (std::size_t i = 0; i < members.size(); ++i) {
    const TileMember& m = members[i];
    out.push_back({{m.first, m.heads, m.head_dim}, m.role, 1});
    if (i + 1 == members.size()) break;
    const TileMember& next = members[i + 1];
    if (next.role != m.role || next.heads != m.heads || next.head_dim != m.head_dim) continue;
    out.back().layers = 2;
    ++i;
  }
  return out;
}

/// The angle of a cosine: an approximation (Abramowitz and Stegun 4.4.45) and two of Newton's steps.
double angle_of(double cosine) {
  const double c = std::fabs(cosine);
  double x = std::sqrt(1 - c) * (1.5707288 + c * (-0.2121144 + c * (0.0742610 - c * 0.0187293)));
  for (int step = 0; step < 2; ++step) {
    const auto at = portable::sincos(x);
    if (at.sin > 0) x += (at.cos - c) / at.sin;
  }
  constexpr double kPi = 0x1.921fb54442d18p+1;
  return cosine < 0 ? kPi - x : x;
}

/// What the directions of two layers count in the one at place t of the arc between them.
std::array<double, 2> slerp(double cosine, double t) {
  const double angle = angle_of(cosine), sine = portable::sincos(angle).sin;
  if (!(sine > 1e-6)) return {1 - t, t};  // one direction, or opposite ones, which no arc joins
  return {portable::sincos((1 - t) * angle).sin / sine, portable::sincos(t * angle).sin / sine};
}

/// Lengths of a token's channels in either layer, and the cosine between them. Where a layer is zero nothing is lost by
/// taking the other's direction.
struct Token {
  std::array<double, 2> length{};
  double cosine = 1;
};
Token measure(const float* x, const Merged& g) {
  std::array<double, 2> square{};
  double product = 0;
  const float* second = x + (g.layers == 2 ? g.width() : 0);
  for (std::size_t c = 0; c < g.width(); ++c) {
    square[0] += double{x[c]} * x[c];
    square[1] += double{second[c]} * second[c];
    product += double{x[c]} * second[c];
  }
  Token t;
  t.length = {std::sqrt(square[0]), std::sqrt(square[1])};
  if (g.layers == 1 || t.length[0] == 0 || t.length[1] == 0) return t;
  t.cosine = std::clamp(product / t.length[0] / t.length[1], -1.0, 1.0);
  return t;
}

class Slerp final : public Cloned<Slerp, Stage> {
 public:
  StageKind kind() const override { return StageKind::additive; }
  bool by_role() const override { return true; }

  void fields(FieldVisitor& v) override {
    v.real("t", t_, 0, 1, "place of the direction between the earlier layer's (0) and the later one's (1)");
    v.real("gamma", gamma_, 0, 1, "tokens within this share of the range of cosines, from the least on, stay exact");
    rows_.fields(
        v, {"bits of a direction's channels; f16: half precision", "f16",
            "what shares a scale: a channel's tokens, a token's channels, those of one head",
            "tokens (channel) or channels (token, token-head) per scale", "format of lengths, scales and minima"});
  }

  void check() override { rows_.check(); }

  TileShape output(const TileContext& context, TileShape in) const override {
    if (in.cols != context.channels()) fail(ErrorCode::invalid_argument, "slerp: a tile without whole heads");
    if (merged_layers(context).size() > kMostGroups) {
      fail(ErrorCode::invalid_argument, "slerp: a tile of more than {} pairs of layers", kMostGroups);
    }
    return in;
  }

  void encode(Tile& tile, EncodeContext& to) const override {
    for (const Merged& g : merged_layers(*tile.context)) encode_group(tile, g, to);
  }

  void decode(Tile& tile, TileShape in, DecodeContext& from) const override {
    for (const Merged& g : merged_layers(*tile.context)) {
      Rows rows;
      pass_rows(from.in, in.rows, rows);
      std::vector<float> exact, lengths;
      pass_source(from.in, exact_shape(rows, g), tile.context->source, exact);
      pass_numbers(from.in, lengths_shape(rows, g), rows_.format(), tile.context->source, lengths);
      const TileContext context = direction_context(*tile.context, g);
      Tile directions(context, direction_shape(in, rows, g));
      rows_.decode(directions, from.in, pass_directions);
      for_each_value(rows, g, exact, lengths, directions,
                     [&](std::size_t r, std::size_t c, float x) { tile.row(r)[c] += x; });
    }
  }

 private:
  /// Tokens that stay exact, and the others; both ascending.
  struct Rows {
    std::vector<std::uint32_t> exact, merged;
  };

  void encode_group(Tile& tile, const Merged& g, EncodeContext& to) const {
    std::vector<Token> tokens;
    for (std::size_t r = 0; r < tile.shape.rows; ++r) tokens.push_back(measure(tile.row(r) + g.first, g));
    Rows rows;
    rows.exact = far_apart(tokens);
    pass_rows(to.out, tile.shape.rows, rows);
    std::vector<float> exact, lengths;
    for (const std::uint32_t r : rows.exact) {
      const float* x = tile.row(r) + g.first;
      exact.insert(exact.end(), x, x + std::size_t{g.layers} * g.width());
    }
    pass_source(to.out, exact_shape(rows, g), tile.context->source, exact);
    const TileContext context = direction_context(*tile.context, g);
    Tile directions(context, direction_shape(tile.shape, rows, g));
    for (std::size_t i = 0; i < rows.merged.size(); ++i) {
      const Token& token = tokens[rows.merged[i]];
      direct(tile.row(rows.merged[i]) + g.first, g, token, directions.row(i));
      for (std::size_t l = 0; l < g.layers; ++l) {
        lengths.push_back(static_cast<float>(std::min(token.length[l], double{std::numeric_limits<float>::max()})));
      }
    }
    pass_numbers(to.out, lengths_shape(rows, g), rows_.format(), tile.context->source, lengths);
    rows_.encode(directions, to, pass_directions);
    if (!to.wanted) return;
    for_each_value(rows, g, exact, lengths, directions, [&](std::size_t r, std::size_t c, float x) {
      const std::size_t at = r * tile.shape.cols + c;
      tile.values[at] = !tile.taken.empty() && tile.taken[at] != 0 ? 0 : tile.values[at] - x;
    });
  }

  /// Tokens of a cosine below least + gamma (most - least).
  std::vector<std::uint32_t> far_apart(const std::vector<Token>& tokens) const {
    double least = 1, most = -1;
    for (const Token& t : tokens) least = std::min(least, t.cosine), most = std::max(most, t.cosine);
    std::vector<std::uint32_t> out;
    for (std::uint32_t r = 0; r < tokens.size(); ++r) {
      if (tokens[r].cosine < least + gamma_ * (most - least)) out.push_back(r);
    }
    return out;
  }

  /// The direction of a token's layers together.
  void direct(const float* x, const Merged& g, const Token& token, float* out) const {
    std::array<double, 2> weights{1, 0};
    if (g.layers == 2) {
      const bool both = token.length[0] != 0 && token.length[1] != 0;
      weights = both ? slerp(token.cosine, t_) : std::array<double, 2>{1, 1};
    }
    for (std::size_t l = 0; l < g.layers; ++l) weights[l] = token.length[l] == 0 ? 0 : weights[l] / token.length[l];
    const float* second = x + (g.layers == 2 ? g.width() : 0);
    for (std::size_t c = 0; c < g.width(); ++c) {
      out[c] = static_cast<float>(weights[0] * x[c] + weights[1] * second[c]);
    }
  }

  static void pass_directions(StreamPort& port, Tile& directions) {
    std::vector<float> values(directions.values.begin(), directions.values.end());
    const NumberShape shape{StreamLabel::factors, directions.shape.rows, directions.shape.cols};
    pass_numbers(port, shape, NumberFormat::f16, directions.context->source, values);
    std::copy(values.begin(), values.end(), directions.values.begin());
  }

  /// use(row, column, value) for all that the stage stands for.
  template <typename Use>
  static void for_each_value(const Rows& rows, const Merged& g, const std::vector<float>& exact,
                             const std::vector<float>& lengths, const Tile& directions, Use&& use) {
    const float* x = exact.data();
    for (const std::uint32_t r : rows.exact) {
      for (std::size_t c = 0; c < std::size_t{g.layers} * g.width(); ++c) use(r, g.first + c, *x++);
    }
    for (std::size_t i = 0; i < rows.merged.size(); ++i) {
      for (std::size_t l = 0; l < g.layers; ++l) {
        const float length = lengths[i * g.layers + l];
        const std::size_t first = g.first + l * g.width();
        for (std::size_t c = 0; c < g.width(); ++c) use(rows.merged[i], first + c, length * directions.row(i)[c]);
      }
    }
  }

  /// How many tokens are exact, and which; reading fills in both lists.
  static void pass_rows(StreamPort& port, std::uint32_t count, Rows& rows) {
    auto exact = static_cast<std::uint32_t>(rows.exact.size());
    pass_integer(port, StreamLabel::flags, exact);
    if (exact > count) fail(ErrorCode::corrupt, "{} exact tokens of {}", exact, count);
    Stream positions = position_stream(1, exact, count);
    if (port.writes()) positions.positions = rows.exact;
    port.pass(positions);
    if (!port.writes()) rows.exact = std::move(positions.positions);
    auto next = rows.exact.begin();
    for (std::uint32_t r = 0; r < count; ++r) {
      if (next != rows.exact.end() && *next == r) {
        ++next;
      } else {
        rows.merged.push_back(r);
      }
    }
  }
  static NumberShape exact_shape(const Rows& rows, const Merged& g) {
    return {StreamLabel::exact, static_cast<std::uint32_t>(rows.exact.size()), g.layers * g.width()};
  }
  static NumberShape lengths_shape(const Rows& rows, const Merged& g) {
    return {StreamLabel::scales, static_cast<std::uint32_t>(rows.merged.size()), g.layers};
  }
  static TileShape direction_shape(TileShape in, const Rows& rows, const Merged& g) {
    return {static_cast<std::uint32_t>(rows.merged.size()), g.width(), in.first_token, false, false};
  }
  static TileContext direction_context(const TileContext& context, const Merged& g) {
    TileContext c;
    c.role = g.role;
    c.heads = g.heads;
    c.head_dim = g.head_dim;
    c.source = context.source;
    return c;
  }

  double t_ = 0.6, gamma_ = 0.05;
  StoredRows rows_;
};

}  // namespace

std::unique_ptr<Stage> make_slerp() {
  return std::make_unique<Slerp>();
}

}  // namespace kvzip
