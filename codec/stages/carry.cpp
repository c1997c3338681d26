// SPDX-License-Identifier: Apache-2.0
// Prediction from the frame before: a channel's mean over the frame before, or its last value there, weighted and
// fading along the tokens, is taken away from each value. The smallest of chained stages, and a model for others.
#include <array>
#include <cmath>
#include <vector>

#include "codec/stages/stages.hpp"

namespace kvzip {
namespace {

enum class Of : std::uint8_t { mean, last };

/// What the frame before was, as a decoder has it.
struct Before final : StageState {
  std::vector<float> channels;  // empty: nothing is known
};

class Carry final : public Cloned<Carry, Stage> {
 public:
  StageKind kind() const override { return StageKind::transform; }
  bool chained() const override { return true; }
  std::unique_ptr<StageState> begin_chain() const override { return std::make_unique<Before>(); }

  void fields(FieldVisitor& v) override {
    static constexpr std::array<std::string_view, 2> kOfs{"mean", "last"};
    v.choice("of", of_, kOfs, "what of each channel of the frame before predicts");
    v.real("weight", weight_, 0, 1, "share of it that is taken away from the frame's first token");
    v.real("decay", decay_, 0, 1, "factor of the share from one token to the next");
  }

  TileShape output(const TileContext&, TileShape in) const override {
    in.pristine = false;
    return in;
  }

  void encode(Tile& tile, EncodeContext& to) const override {
    for_each_value(tile, static_cast<const Before&>(*to.state), [](float& value, float part) { value -= part; });
    tile.shape = output(*tile.context, tile.shape);
  }

  void decode(Tile& tile, TileShape in, DecodeContext& from) const override {
    auto& before = static_cast<Before&>(*from.state);
    for_each_value(tile, before, [](float& value, float part) { value += part; });
    tile.shape = in;
    if (in.rows != 0) before.channels = seen_of(tile);
  }

 private:
  template <typename F>
  void for_each_value(Tile& tile, const Before& before, F&& f) const {
    const std::size_t cols = tile.shape.cols;
    if (before.channels.size() != cols) return;
    auto share = static_cast<float>(weight_);
    for (std::size_t r = 0; r < tile.shape.rows; ++r) {
      for (std::size_t c = 0; c < cols; ++c) f(tile.row(r)[c], share * before.channels[c]);
      share *= static_cast<float>(decay_);
    }
  }

  /// Of a complete tile with rows; values that hostile or extreme numbers drove out of the finite range count as 0.
  std::vector<float> seen_of(const Tile& tile) const {
    const std::size_t rows = tile.shape.rows, cols = tile.shape.cols;
    std::vector<float> seen(tile.row(rows - 1), tile.row(rows - 1) + cols);
    if (of_ == Of::mean) {
      std::vector<double> sum(cols);
      for (std::size_t r = 0; r < rows; ++r) {
        for (std::size_t c = 0; c < cols; ++c) sum[c] += double{tile.row(r)[c]};
      }
      for (std::size_t c = 0; c < cols; ++c) seen[c] = static_cast<float>(sum[c] / static_cast<double>(rows));
    }
    for (float& s : seen) s = std::isfinite(s) ? s : 0.0f;
    return seen;
  }

  Of of_ = Of::mean;
  double weight_ = 1, decay_ = 1;
};

}  // namespace

std::unique_ptr<Stage> make_carry() {
  return std::make_unique<Carry>();
}

}  // namespace kvzip
