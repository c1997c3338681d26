// SPDX-License-Identifier: Apache-2.0
// A random rotation of each head's channels, after which every coordinate of a vector is nearly Gaussian, whatever the
// vector was (TurboQuant, arXiv 2504.19874 section 3.1, with a dense random orthogonal matrix). Here rounds of random
// signs and a Walsh-Hadamard transform (Ailon and Chazelle 2009; QuaRot, arXiv 2404.00456): no matrix to store or to
// multiply with, and sums in a fixed order that every processor gets alike.
#include <bit>
#include <cmath>

#include "codec/fail.hpp"
#include "codec/kernels/hadamard.hpp"
#include "codec/splitmix64.hpp"
#include "codec/stages/stages.hpp"

namespace kvzip {
namespace {

class Rotate final : public Cloned<Rotate, Stage> {
 public:
  StageKind kind() const override { return StageKind::transform; }

  void fields(FieldVisitor& v) override {
    v.integer("rounds", rounds_, 1, 4, "rounds of random signs and a Walsh-Hadamard transform");
    v.integer("seed", seed_, 0, ~std::uint64_t{0}, "seed of the signs");
  }

  TileShape output(const TileContext& context, TileShape in) const override {
    if (in.cols != context.channels()) fail(ErrorCode::invalid_argument, "rotate: a tile without whole heads");
    in.pristine = false;
    return in;
  }

  void encode(Tile& tile, EncodeContext&) const override {
    tile.shape = output(*tile.context, tile.shape);
    for_each_row(tile, kernels::rotate);
  }

  void decode(Tile& tile, TileShape in, DecodeContext&) const override {
    for_each_row(tile, kernels::rotate_back);
    tile.shape = in;
  }

 private:
  std::vector<float> signs_of(std::size_t dim) const {
    std::vector<float> signs(rounds_ * dim);
    std::uint64_t bits = 0, words = 0;
    for (std::size_t i = 0; i < signs.size(); ++i) {
      if (i % dim % 64 == 0) bits = splitmix64(seed_, words++);
      signs[i] = (bits >> (i % dim % 64) & 1) != 0 ? -1.0f : 1.0f;
    }
    return signs;
  }

  void for_each_row(Tile& tile, void (*turn)(const kernels::Rotation&, std::size_t, float*)) const {
    if (tile.values.empty()) return;
    for (const HeadRun& run : tile.context->head_runs()) {
      const std::vector<float> signs = signs_of(run.head_dim);
      const std::size_t width = std::bit_floor(std::size_t{run.head_dim});
      const int log = std::countr_zero(width);
      const float factor = std::ldexp(log % 2 == 0 ? 1.0f : 0x1.6a09e6p-1f, -(log / 2));  // width^(-1/2)
      const kernels::Rotation rotation{rounds_, run.head_dim, width, factor, signs.data()};
      for (std::size_t r = 0; r < tile.shape.rows; ++r) turn(rotation, run.heads, tile.row(r) + run.first);
    }
  }

  std::uint64_t rounds_ = 2, seed_ = 0;
};

}  // namespace

std::unique_ptr<Stage> make_rotate() {
  return std::make_unique<Rotate>();
}

}  // namespace kvzip
