// SPDX-License-Identifier: Apache-2.0
// Layers predicted from those before, and what is left quantised: AQUA-KV (arXiv 2501.19392 section 3). Keys follow
// from the keys of the layer before, values from the layer's own keys and the values before, by linear maps, each
// fitted to what a reader will have. The paper fits maps on calibration text and keeps them with the model; here they
// are the tile's own, and stored with it. Its quantiser is free; here it is the uniform one of groups of a token.
#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "codec/fail.hpp"
#include "codec/kernels/products.hpp"
#include "codec/limits.hpp"
#include "codec/side.hpp"
#include "codec/stages/ridge.hpp"
#include "codec/stages/stages.hpp"
#include "codec/stages/sub_tile.hpp"

namespace kvzip {
namespace {

constexpr std::size_t kMostMembers = 16;  // each has up to seven streams

/// A member and those that it follows from.
struct Step {
  TileMember to;
  std::vector<TileMember> from;
  std::uint32_t outputs() const { return to.end() - to.first; }
  std::uint32_t inputs() const {
    std::uint32_t sum = 0;
    for (const TileMember& m : from) sum += m.end() - m.first;
    return sum;
  }
};

/// Layer by layer, keys before values. What is first of its role follows from nothing.
std::vector<Step> steps_of(const TileContext& context) {
  std::vector<TileMember> members = context.members;
  if (members.empty()) members.push_back({{0, context.heads, context.head_dim}, context.role, context.layer});
  std::stable_sort(members.begin(), members.end(), [](const TileMember& a, const TileMember& b) {
    return a.layer != b.layer ? a.layer < b.layer : a.role == Role::key && b.role != Role::key;
  });
  std::vector<Step> steps;
  for (std::size_t i = 0; i < members.size(); ++i) {
    Step step{members[i], {}};
    const auto last = [&](Role role) {
      const auto found = std::find_if(members.rend() - static_cast<std::ptrdiff_t>(i), members.rend(),
                                      [&](const TileMember& m) { return m.role == role; });
      return found == members.rend() ? nullptr : &*found;
    };
    if (const TileMember* before = last(members[i].role); before != nullptr) {
      const TileMember* key = members[i].role == Role::value ? last(Role::key) : nullptr;
      if (key != nullptr && key->layer == members[i].layer) step.from.push_back(*key);
      step.from.push_back(*before);
    }
    steps.push_back(std::move(step));
  }
  return steps;
}

class Predict final : public Cloned<Predict, Stage> {
 public:
  StageKind kind() const override { return StageKind::additive; }
  bool by_role() const override { return true; }

  void fields(FieldVisitor& v) override {
    v.integer("first", first_, 1, 8, "bits of what follows from nothing");
    v.integer("bits", bits_, 1, 8, "bits of what is left of the others");
    v.integer("group", group_, 0, 1u << 30, "channels of a token's head per scale", "all");
    v.real("damp", damp_, 1e-6, 1, "weight of small maps against small errors");
    v.choice("scale", format_, kNumberFormatNames, "format of scales and minima");
  }

  void check() override {
    const auto quant = [&](std::uint64_t bits) {
      return nested_quant("bits=" + std::to_string(bits) +
                          " axis=token-head group=" + (group_ == 0 ? "all" : std::to_string(group_)) +
                          " scale=" + std::string(kNumberFormatNames[static_cast<std::size_t>(format_)]));
    };
    first_quant_ = quant(first_);
    quant_ = quant(bits_);
  }

  TileShape output(const TileContext& context, TileShape in) const override {
    if (in.cols != context.channels()) fail(ErrorCode::invalid_argument, "predict: a tile without whole heads");
    const std::vector<Step> steps = steps_of(context);
    if (steps.size() > kMostMembers) {
      fail(ErrorCode::invalid_argument, "predict: a tile of more than {} tensors", kMostMembers);
    }
    for (const Step& s : steps) {
      if (std::uint64_t{s.inputs()} * s.outputs() > limits::kFrameValues) {
        fail(ErrorCode::limit, "predict: a map of more than 2^30 numbers");
      }
    }
    return in;
  }

  double work(const TileContext& context, TileShape in) const override {
    double sum = 0;
    for (const Step& s : steps_of(context)) sum += (in.rows + 1.0) * s.inputs() * s.outputs();
    return sum;
  }

  void encode(Tile& tile, EncodeContext& to) const override {
    Tile known(*tile.context, tile.shape);
    for (const Step& step : steps_of(*tile.context)) {
      std::vector<float> map;
      if (step.inputs() != 0) {
        map = ridge_map(columns(known, step.from), step.inputs(), columns(tile, {step.to}), step.outputs(),
                        tile.shape.rows, damp_);
        pass_map(to.out, *tile.context, step, map);
      }
      predict(known, step, map);
      const TileContext context = context_of(*tile.context, step.to);
      Tile rest(context, part_shape(tile.shape, step));
      for_each(
          tile.shape, step,
          [&](std::size_t r, std::size_t c, float& x) { x = finite(double{tile.row(r)[c]} - known.row(r)[c]); }, rest);
      const Buffer<float> before = rest.values;
      EncodeContext nested{to.out, true};
      quant_of(step).encode(rest, nested);
      for (std::size_t i = 0; i < before.size(); ++i) rest.values[i] = before[i] - rest.values[i];
      for_each(
          tile.shape, step,
          [&](std::size_t r, std::size_t c, float& x) { known.row(r)[c] = finite(double{known.row(r)[c]} + x); }, rest);
    }
    if (!to.wanted) return;
    for (std::size_t r = 0; r < tile.shape.rows; ++r) {
      tile.subtract_row(r, std::vector<float>(known.row(r), known.row(r) + tile.shape.cols));
    }
  }

  void decode(Tile& tile, TileShape in, DecodeContext& from) const override {
    Tile known(*tile.context, in);
    for (const Step& step : steps_of(*tile.context)) {
      std::vector<float> map;
      if (step.inputs() != 0) pass_map(from.in, *tile.context, step, map);
      predict(known, step, map);
      const TileContext context = context_of(*tile.context, step.to);
      Tile rest(context, part_shape(in, step));
      std::fill(rest.values.begin(), rest.values.end(), 0.0f);
      DecodeContext nested{from.in};
      quant_of(step).decode(rest, rest.shape, nested);
      for_each(
          in, step,
          [&](std::size_t r, std::size_t c, float& x) { known.row(r)[c] = finite(double{known.row(r)[c]} + x); }, rest);
    }
    for (std::size_t i = 0; i < known.values.size(); ++i) tile.values[i] += known.values[i];
  }

 private:
  const Stage& quant_of(const Step& step) const { return step.inputs() == 0 ? *first_quant_ : *quant_; }

  static float finite(double x) {
    constexpr double kLargest = std::numeric_limits<float>::max();
    return std::isnan(x) ? 0 : static_cast<float>(std::clamp(x, -kLargest, kLargest));
  }

  /// The columns of some members side by side.
  static std::vector<float> columns(const Tile& tile, const std::vector<TileMember>& members) {
    std::vector<float> out;
    for (std::size_t r = 0; r < tile.shape.rows; ++r) {
      for (const TileMember& m : members) out.insert(out.end(), tile.row(r) + m.first, tile.row(r) + m.end());
    }
    return out;
  }

  /// use(row, column of the tile, value of the part) for all values of a step's tensor.
  template <typename Use>
  static void for_each(TileShape shape, const Step& step, Use&& use, Tile& part) {
    for (std::size_t r = 0; r < shape.rows; ++r) {
      for (std::size_t c = 0; c < step.outputs(); ++c) use(r, step.to.first + c, part.row(r)[c]);
    }
  }

  /// Sets the step's columns to what the map makes of those it follows from, input by input.
  static void predict(Tile& known, const Step& step, const std::vector<float>& map) {
    for (std::size_t r = 0; r < known.shape.rows; ++r) {
      float* out = known.row(r) + step.to.first;
      std::fill_n(out, step.outputs(), 0.0f);
      const float* row = map.data();
      for (const TileMember& m : step.from) {
        for (std::uint32_t c = m.first; c < m.end(); ++c, row += step.outputs()) {
          kernels::add_multiple(row, step.outputs(), known.row(r)[c], out);
        }
      }
      for (std::size_t c = 0; c < step.outputs(); ++c) out[c] = finite(out[c]);
    }
  }

  // The streams of a member: its map, if it has one, and what quant has of what is left.
  static void pass_map(StreamPort& port, const TileContext& context, const Step& step, std::vector<float>& map) {
    pass_numbers(port, {StreamLabel::factors, step.inputs(), step.outputs()}, NumberFormat::f16, context.source, map);
  }
  static TileShape part_shape(TileShape in, const Step& step) { return {in.rows, step.outputs(), 0, false, false}; }
  static TileContext context_of(const TileContext& context, const TileMember& m) {
    TileContext c;
    c.role = m.role;
    c.heads = m.heads;
    c.head_dim = m.head_dim;
    c.source = context.source;
    return c;
  }

  std::uint64_t first_ = 4, bits_ = 2, group_ = 64;
  double damp_ = 0.001;
  NumberFormat format_ = NumberFormat::f16;
  std::shared_ptr<const Stage> first_quant_, quant_;
};

}  // namespace

std::unique_ptr<Stage> make_predict() {
  return std::make_unique<Predict>();
}

}  // namespace kvzip
