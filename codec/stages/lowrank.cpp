// SPDX-License-Identifier: Apache-2.0
// Low-rank approximation of what is left, per head, by the power iteration of GEAR (arXiv 2403.05527 Algorithm 2): draw
// P uniform in [0, 1), then `loops` times Q = E P, P = E' Q, orthonormalising before each product. The published code
// orthonormalises in the last loop only; doing it each time spans the same space and does not overflow. L = Q P' is
// stored as factors Q (tokens x rank) and P (channels x rank).
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "codec/kernels/kernels.hpp"
#include "codec/side.hpp"
#include "codec/stages/stages.hpp"
#include "kvzip/error.hpp"

namespace kvzip {
namespace {

enum class Per : std::uint8_t { head, tile };

/// splitmix64, a published 64-bit generator (Steele, Lea, Flood 2014): any seed, no state beyond a counter.
double uniform(std::uint64_t seed, std::uint64_t index) {
  std::uint64_t z = seed + (index + 1) * 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return static_cast<double>((z ^ (z >> 31)) >> 11) * 0x1p-53;
}

/// A stored factor: rows x rank, row-major.
struct Factor {
  std::uint32_t rows, rank;
  std::vector<float> v;
  Factor(std::uint32_t r, std::uint32_t k) : rows(r), rank(k), v(std::size_t{r} * k) {}
};

/// A factor at work: `rank` vectors, each in one piece.
struct Basis {
  std::size_t length, rank;
  std::vector<float> v;
  Basis(std::size_t n, std::size_t k) : length(n), rank(k), v(n * k) {}
  float* vector(std::size_t k) { return v.data() + k * length; }
};

/// Modified Gram-Schmidt, twice; a vector that vanishes becomes zero.
void orthonormalise(Basis& b) {
  for (std::size_t k = 0; k < b.rank; ++k) {
    float* v = b.vector(k);
    const double before = kernels::dot(v, v, b.length);
    for (int pass = 0; pass < 2; ++pass) {
      for (std::size_t j = 0; j < k; ++j) {
        kernels::add_multiple(b.vector(j), b.length, static_cast<float>(-kernels::dot(v, b.vector(j), b.length)), v);
      }
    }
    const double norm = kernels::dot(v, v, b.length);
    const double inverse = norm > before * 1e-12 && norm > 0 ? 1 / std::sqrt(norm) : 0;
    for (std::size_t i = 0; i < b.length; ++i) v[i] = static_cast<float>(v[i] * inverse);
  }
}

class LowRank final : public Stage {
 public:
  StageKind kind() const override { return StageKind::additive; }

  void fields(FieldVisitor& v) override {
    static constexpr std::array<std::string_view, 2> kPer{"head", "tile"};
    v.integer("rank", rank_, 1, 1024, "rank of the approximation");
    v.integer("loops", loops_, 1, 64, "power iterations");
    v.integer("seed", seed_, 0, ~std::uint64_t{0}, "seed of the random start");
    v.integer("bits", bits_, 0, 8, "bits of a factor's entry, one scale per column; f16: half precision", "f16");
    v.choice("per", per_, kPer, "one factorisation per head or one for the tile");
  }

  void check() override {
    if (bits_ == 1) fail(ErrorCode::invalid_argument, "lowrank: factors need 2 bits or more");
  }

  void encode(Tile& tile, StreamWriter& out) const override {
    const Plan plan = make_plan(*tile.context, tile.shape);
    Factor q_all(tile.shape.rows, plan.rank * plan.blocks), p_all(plan.cols, plan.rank * plan.blocks);
    for (std::uint32_t b = 0; b < plan.blocks; ++b) {
      Basis q(tile.shape.rows, plan.rank), p(plan.cols, plan.rank);
      factorise(tile, b, q, p);
      place(q, b, q_all);
      place(p, b, p_all);
    }
    put_factor(out, q_all, tile.context->source);
    put_factor(out, p_all, tile.context->source);
    for_each_row(plan, q_all, p_all, [&](std::size_t t, const std::vector<float>& l) { tile.subtract_row(t, l); });
  }

  void decode(Tile& tile, TileShape in, StreamReader& streams) const override {
    const Plan plan = make_plan(*tile.context, in);
    Factor q(in.rows, plan.rank * plan.blocks), p(plan.cols, plan.rank * plan.blocks);
    get_factor(streams, q, tile.context->source);
    get_factor(streams, p, tile.context->source);
    for_each_row(plan, q, p, [&](std::size_t t, const std::vector<float>& l) {
      for (std::size_t c = 0; c < l.size(); ++c) tile.row(t)[c] += l[c];
    });
  }

 private:
  /// `blocks` windows of `cols` columns each; factors of all blocks lie side by side.
  struct Plan {
    std::uint32_t blocks, cols, rank;
  };
  Plan make_plan(const TileContext& context, TileShape shape) const {
    const std::uint32_t blocks = per_ == Per::head ? std::max(1u, context.heads) : 1;
    const std::uint32_t cols = shape.cols / blocks;
    return {blocks, cols, static_cast<std::uint32_t>(std::min<std::uint64_t>({rank_, cols, shape.rows}))};
  }

  void factorise(const Tile& tile, std::uint32_t index, Basis& q, Basis& p) const {
    if (q.rank == 0) return;  // a tile without rows
    const kernels::Block e{tile.values.data() + index * p.length, q.length, p.length, tile.shape.cols};
    float low = 0, high = 0;
    for (std::size_t t = 0; t < e.rows; ++t) kernels::min_max(e.data + t * e.stride, e.cols, &low, &high);
    const float largest = std::max(high, -low);
    if (largest == 0) return;
    // A power of two brings products with extreme data to ordinary size, so that they stay finite.
    const float scale = std::ldexp(1.0f, std::clamp(-std::ilogb(largest), -126, 126));
    for (std::size_t i = 0; i < p.length; ++i) {
      for (std::size_t k = 0; k < p.rank; ++k) {
        p.vector(k)[i] = static_cast<float>(uniform(seed_ + index, i * p.rank + k));
      }
    }
    for (std::uint64_t loop = 0; loop < loops_; ++loop) {
      orthonormalise(p);
      for (float& v : p.v) v *= scale;
      kernels::block_times(e, p.v.data(), p.rank, q.v.data());
      orthonormalise(q);
      for (float& v : q.v) v *= scale;
      kernels::transposed_block_times(e, q.v.data(), q.rank, p.v.data());
      for (float& v : q.v) v /= scale;
    }
    constexpr float kMost = std::numeric_limits<float>::max();
    for (float& v : p.v) v = std::clamp(v / scale, -kMost, kMost);
  }

  static void place(Basis& part, std::uint32_t block, Factor& all) {
    for (std::size_t k = 0; k < part.rank; ++k) {
      for (std::size_t i = 0; i < part.length; ++i) {
        all.v[i * all.rank + block * part.rank + k] = part.vector(k)[i];
      }
    }
  }

  void put_factor(StreamWriter& out, Factor& f, DType source) const {
    if (bits_ == 0) return put_numbers(out, StreamLabel::factors, f.v, f.rows, f.rank, NumberFormat::f16, source);
    const float m = static_cast<float>((1u << (bits_ - 1)) - 1);
    std::vector<float> scale(f.rank);
    for (std::size_t i = 0; i < f.v.size(); ++i) scale[i % f.rank] = std::max(scale[i % f.rank], std::fabs(f.v[i]) / m);
    put_numbers(out, StreamLabel::scales, scale, 1, f.rank, NumberFormat::f16, source);
    Stream codes = code_stream(f);
    codes.data.resize(f.v.size());
    for (std::size_t i = 0; i < f.v.size(); ++i) {
      const float s = scale[i % f.rank];
      const float q = s == 0 ? 0 : std::clamp(std::nearbyint(f.v[i] / s), -m, m);
      codes.data[i] = static_cast<std::uint8_t>(q + m);
      f.v[i] = q * s;
    }
    out.put(std::move(codes));
  }

  void get_factor(StreamReader& in, Factor& f, DType source) const {
    if (bits_ == 0) {
      f.v = get_numbers(in, StreamLabel::factors, f.rows, f.rank, NumberFormat::f16, source);
      return;
    }
    const float m = static_cast<float>((1u << (bits_ - 1)) - 1);
    const auto scale = get_numbers(in, StreamLabel::scales, 1, f.rank, NumberFormat::f16, source);
    Stream codes = code_stream(f);
    in.get(codes);
    for (std::size_t i = 0; i < f.v.size(); ++i) f.v[i] = (static_cast<float>(codes.data[i]) - m) * scale[i % f.rank];
  }

  Stream code_stream(const Factor& f) const {
    Stream s;
    s.label = StreamLabel::factors;
    s.type = StreamType::symbols;
    s.alphabet = (1u << bits_) - 1;
    s.rows = f.rows;
    s.cols = f.rank;
    return s;
  }

  /// l = sum over k of Q[t][k] P[c][k], k ascending: the order is part of the format. use(t, l of the token's
  /// channels).
  template <typename F>
  static void for_each_row(const Plan& plan, const Factor& q, const Factor& p, F&& use) {
    std::vector<float> transposed(p.v.size()), row(std::size_t{plan.blocks} * plan.cols);
    for (std::size_t c = 0; c < p.rows; ++c) {
      for (std::size_t k = 0; k < p.rank; ++k) transposed[k * p.rows + c] = p.v[c * p.rank + k];
    }
    for (std::size_t t = 0; t < q.rows; ++t) {
      for (std::size_t b = 0; b < plan.blocks; ++b) {
        kernels::combine(q.v.data() + t * q.rank + b * plan.rank, plan.rank, transposed.data() + b * plan.rank * p.rows,
                         p.rows, plan.cols, row.data() + b * plan.cols);
      }
      use(t, row);
    }
  }

  std::uint64_t rank_ = 4, loops_ = 3, seed_ = 0, bits_ = 0;
  Per per_ = Per::head;
};

}  // namespace

std::unique_ptr<Stage> make_lowrank() {
  return std::make_unique<LowRank>();
}

}  // namespace kvzip
