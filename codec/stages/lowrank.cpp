// SPDX-License-Identifier: Apache-2.0
// Low-rank approximation of what is left, per head, by the power iteration of GEAR (arXiv 2403.05527 Algorithm 2): draw
// P uniform in [0, 1), then `loops` times Q = E P, P = E' Q. The published code orthonormalises in the last loop only;
// here P is orthonormal before each loop, which spans the same space and does not overflow. L = Q P' is stored as
// factors Q (tokens x rank) and P (channels x rank).
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "codec/fail.hpp"
#include "codec/kernels/products.hpp"
#include "codec/side.hpp"
#include "codec/splitmix64.hpp"
#include "codec/stages/stages.hpp"

namespace kvzip {
namespace {

enum class Per : std::uint8_t { head, tile };
constexpr std::uint64_t kMostRank = 1024;

double uniform(std::uint64_t seed, std::uint64_t index) {
  return static_cast<double>(splitmix64(seed, index) >> 11) * 0x1p-53;
}

/// A stored factor: rows x rank, row-major.
struct Factor {
  std::uint32_t rows, rank;
  std::vector<float> v;
  Factor(std::uint32_t r, std::uint32_t k) : rows(r), rank(k), v(std::size_t{r} * k) {}
};

/// A factor at work: `rank` vectors, each in one piece, and zero vectors up to whole quads.
struct Basis {
  std::size_t length, rank;
  std::vector<float> v;
  Basis(std::size_t n, std::size_t k)
      : length(n), rank(k), v(n * ((k + kernels::kQuad - 1) / kernels::kQuad * kernels::kQuad)) {}
  float* vector(std::size_t k) { return v.data() + k * length; }
  const float* vector(std::size_t k) const { return v.data() + k * length; }
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
    const double inverse = norm > before * 1e-14 && norm > 0 ? 1 / std::sqrt(norm) : 0;
    for (std::size_t i = 0; i < b.length; ++i) v[i] = static_cast<float>(v[i] * inverse);
  }
}

/// The iteration on one part E of a tile; made once and used for each part.
class Iteration {
 public:
  Iteration(std::size_t rows, std::size_t cols, std::size_t rank)
      : q(rows, rank),
        p((cols + kernels::kPartials - 1) / kernels::kPartials * kernels::kPartials, rank),
        e_(rows * p.length),
        next_(p.v.size()),
        quads_(p.v.size() / (p.length * kernels::kQuad)),
        interleaved_(q.v.size()),
        cols_(cols) {}

  /// The factors of the last run(). Vectors of p are filled up with zeros behind `cols`.
  Basis q, p;

  void run(const float* values, std::size_t stride, std::uint64_t seed, std::uint64_t loops) {
    start(seed);
    const bool with_product = loops > 1;
    if (with_product) orthonormalise(p);
    const float largest = with_product ? kernels::gather_gram_times(values, q.length, cols_, stride, e_.data(),
                                                                    p.length, p.v.data(), quads_, next_.data())
                                       : kernels::gather_block(values, q.length, cols_, stride, e_.data(), p.length);
    if (largest == 0) {
      std::fill(q.v.begin(), q.v.end(), 0.0f);
      return std::fill(p.v.begin(), p.v.end(), 0.0f);
    }
    // Squares and their sums stay finite between these. A power of two brings other data there and changes no digit.
    constexpr float kLeast = 0x1p-40f, kMost = 0x1p40f;
    const bool extreme = largest < kLeast || largest > kMost;
    const float scale = extreme ? std::ldexp(1.0f, std::clamp(-std::ilogb(largest), -126, 126)) : 1;
    if (extreme) {
      for (float& v : e_) v *= scale;
      if (with_product) kernels::gram_times(block(), p.v.data(), quads_, next_.data());
    }
    iterate(loops);
    if (extreme) {
      constexpr float kLargest = std::numeric_limits<float>::max();
      for (float& v : p.v) v = std::clamp(v / scale, -kLargest, kLargest);
    }
  }

 private:
  kernels::Block block() const { return {e_.data(), q.length, p.length}; }

  void start(std::uint64_t seed) {
    std::fill(p.v.begin(), p.v.end(), 0.0f);
    for (std::size_t i = 0; i < cols_; ++i) {
      for (std::size_t k = 0; k < p.rank; ++k) {
        p.vector(k)[i] = static_cast<float>(uniform(seed, i * p.rank + k));
      }
    }
  }

  /// All loops but the last take E' E as one product, which reads E once; the first one's is already in next_. That
  /// squares the ratio between the directions of E, so that single precision loses those 2^-12 weaker than the
  /// strongest: what rounding a factor to half precision loses anyway.
  void iterate(std::uint64_t loops) {
    const kernels::Block e = block();
    for (std::uint64_t loop = 1; loop < loops; ++loop) {
      if (loop > 1) {
        orthonormalise(p);
        kernels::gram_times(e, p.v.data(), quads_, next_.data());
      }
      p.v.swap(next_);
    }
    orthonormalise(p);
    kernels::times(e, p.v.data(), quads_, interleaved_.data());
    for_each_place([](float& interleaved, float& plain) { plain = interleaved; });
    orthonormalise(q);
    for_each_place([](float& interleaved, float& plain) { interleaved = plain; });
    kernels::transposed_times(e, interleaved_.data(), quads_, p.v.data());
  }

  /// use(number in interleaved_, the same number in q): products keep four numbers of a row side by side.
  template <typename F>
  void for_each_place(F&& use) {
    float* at = interleaved_.data();
    for (std::size_t g = 0; g < quads_; ++g) {
      float* vector = q.vector(g * kernels::kQuad);
      for (std::size_t t = 0; t < q.length; ++t) {
        for (std::size_t k = 0; k < kernels::kQuad; ++k) use(*at++, vector[k * q.length + t]);
      }
    }
  }

  Buffer<float> e_;
  std::vector<float> next_;
  std::size_t quads_;
  std::vector<float> interleaved_;
  std::size_t cols_;
};

class LowRank final : public Cloned<LowRank, Stage> {
 public:
  StageKind kind() const override { return StageKind::additive; }

  void fields(FieldVisitor& v) override {
    static constexpr std::array<std::string_view, 2> kPer{"head", "tile"};
    v.integer("rank", rank_, 1, kMostRank, "rank of the approximation");
    v.integer("loops", loops_, 1, 64, "power iterations");
    v.integer("seed", seed_, 0, ~std::uint64_t{0}, "seed of the random start");
    v.integer("bits", bits_, 0, 8, "bits of a factor's entry, one scale per column; f16: half precision", "f16");
    v.choice("per", per_, kPer, "one factorisation per head or one for the tile");
    v.since("1.1");
    v.real("share", share_, 0, 1, "rank as a share of the channels, rounded up, instead of a number", "rank");
    v.real("energy", energy_, 0, 1, "share of the energy that as few vectors as can be have, up to the rank", "none");
  }

  void check() override {
    if (bits_ == 1) fail(ErrorCode::invalid_argument, "lowrank: factors need 2 bits or more");
  }

  double work(const TileContext& context, TileShape in) const override {
    double sum = 0;
    for (const Windows& w : make_windows(context, in)) {
      sum += (in.rows + 1.0) * w.blocks * w.cols * w.rank;
    }
    return sum;
  }

  void encode(Tile& tile, EncodeContext& to) const override {
    std::uint64_t seed = seed_;
    for (const Windows& windows : make_windows(*tile.context, tile.shape)) {
      encode_windows(windows, seed, tile, to);
      seed += windows.blocks;
    }
  }

  void decode(Tile& tile, TileShape in, DecodeContext& from) const override {
    for (Windows& windows : make_windows(*tile.context, in)) {
      if (energy_ > 0) pass_rank(from.in, windows);
      Factor q(in.rows, windows.rank * windows.blocks), p(windows.cols, windows.rank * windows.blocks);
      pass_factor(from.in, tile.context->source, q);
      pass_factor(from.in, tile.context->source, p);
      const std::vector<float> vectors = by_vector(windows, p);
      const kernels::Parts parts{vectors.data(), windows.blocks, windows.rank, windows.cols};
      for (std::size_t t = 0; t < in.rows; ++t) {
        kernels::add_products(q.v.data() + t * q.rank, parts, tile.row(t) + windows.first);
      }
    }
  }

 private:
  /// `blocks` windows of `cols` columns each from column `first` on; factors of all blocks lie side by side.
  struct Windows {
    std::uint32_t first, blocks, cols, rank;
  };
  /// For each run of heads of one width.
  std::vector<Windows> make_windows(const TileContext& context, TileShape shape) const {
    std::vector<HeadRun> runs{{0, 1, shape.cols}};
    if (per_ == Per::head) runs = context.head_runs();
    std::vector<Windows> out;
    for (const HeadRun& run : runs) {
      const auto wanted = share_ == 0 ? rank_
                                      : std::min<std::uint64_t>(
                                            kMostRank, static_cast<std::uint64_t>(std::ceil(share_ * run.head_dim)));
      const auto rank = std::min<std::uint64_t>({wanted, run.head_dim, shape.rows});
      out.push_back({run.first, run.heads, run.head_dim, static_cast<std::uint32_t>(rank)});
    }
    return out;
  }

  void encode_windows(Windows windows, std::uint64_t seed, Tile& tile, EncodeContext& to) const {
    Factor q(tile.shape.rows, windows.rank * windows.blocks), p(windows.cols, windows.rank * windows.blocks);
    Energies energies(windows.rank);
    if (windows.rank != 0) {
      Iteration iteration(tile.shape.rows, windows.cols, windows.rank);
      for (std::uint32_t b = 0; b < windows.blocks; ++b) {
        const float* window = tile.values.data() + windows.first + std::size_t{b} * windows.cols;
        iteration.run(window, tile.shape.cols, seed + b, loops_);
        std::vector<std::size_t> order(windows.rank);
        std::iota(order.begin(), order.end(), std::size_t{0});
        if (energy_ > 0) order = energies.add(iteration.p, window, tile.shape, windows.cols);
        place(iteration.q, order, b, q);
        place(iteration.p, order, b, p);
      }
    }
    if (energy_ > 0) {
      const std::uint32_t before = std::exchange(windows.rank, energies.rank_for(energy_));
      q = narrowed(q, before, windows);
      p = narrowed(p, before, windows);
      pass_rank(to.out, windows);
    }
    pass_factor(to.out, tile.context->source, q);
    pass_factor(to.out, tile.context->source, p);
    if (!to.wanted) return;
    const std::vector<float> vectors = by_vector(windows, p);
    const kernels::Parts parts{vectors.data(), windows.blocks, windows.rank, windows.cols};
    for (std::size_t t = 0; t < tile.shape.rows; ++t) {
      const std::size_t at = t * tile.shape.cols + windows.first;
      const std::uint8_t* taken = tile.taken.empty() ? nullptr : tile.taken.data() + at;
      kernels::subtract_products(q.v.data() + t * q.rank, parts, taken, tile.values.data() + at);
    }
  }

  /// What vectors of parts have of the parts' energy, those with most of it first.
  class Energies {
   public:
    explicit Energies(std::size_t rank) : of_vectors_(rank) {}
    /// Q is orthonormal, so that a vector of P has its own part of E. Returns the order of the vectors.
    std::vector<std::size_t> add(const Basis& p, const float* window, TileShape shape, std::size_t cols) {
      std::vector<std::pair<double, std::size_t>> own;
      for (std::size_t k = 0; k < p.rank; ++k) own.emplace_back(kernels::dot(p.vector(k), p.vector(k), p.length), k);
      std::stable_sort(own.begin(), own.end(), [](const auto& a, const auto& b) { return a.first > b.first; });
      std::vector<std::size_t> order;
      for (std::size_t k = 0; k < own.size(); ++k) {
        of_vectors_[k] += own[k].first;
        order.push_back(own[k].second);
      }
      for (std::size_t t = 0; t < shape.rows; ++t, window += shape.cols) all_ += kernels::dot(window, window, cols);
      return order;
    }
    /// How many of each part have this share together; one, or all, at least.
    std::uint32_t rank_for(double share) const {
      std::uint32_t rank = 0;
      double sum = 0;
      while (rank < of_vectors_.size() && (rank == 0 || sum < share * all_)) sum += of_vectors_[rank++];
      return rank;
    }

   private:
    std::vector<double> of_vectors_;
    double all_ = 0;
  };

  void pass_rank(StreamPort& port, Windows& windows) const {
    std::uint32_t rank = windows.rank;
    pass_integer(port, StreamLabel::factors, rank);
    if (rank > windows.rank) fail(ErrorCode::corrupt, "a rank of {}, above {}", rank, windows.rank);
    windows.rank = rank;
  }

  /// The first vectors of each block, of `before` that it had.
  static Factor narrowed(const Factor& f, std::uint32_t before, const Windows& windows) {
    Factor out(f.rows, windows.rank * windows.blocks);
    for (std::size_t i = 0; i < f.rows; ++i) {
      for (std::size_t b = 0; b < windows.blocks; ++b) {
        std::copy_n(f.v.data() + i * f.rank + b * before, windows.rank, out.v.data() + i * out.rank + b * windows.rank);
      }
    }
    return out;
  }

  static void place(const Basis& part, const std::vector<std::size_t>& order, std::uint32_t block, Factor& all) {
    for (std::size_t i = 0; i < all.rows; ++i) {
      float* row = all.v.data() + i * all.rank + block * part.rank;
      for (std::size_t k = 0; k < part.rank; ++k) row[k] = part.vector(order[k])[i];
    }
  }
  /// P's vectors, block after block, each in one piece.
  static std::vector<float> by_vector(const Windows& windows, const Factor& p) {
    std::vector<float> vectors(p.v.size());
    for (std::size_t c = 0; c < p.rows; ++c) {
      for (std::size_t k = 0; k < p.rank; ++k) vectors[k * windows.cols + c] = p.v[c * p.rank + k];
    }
    return vectors;
  }

  /// The streams of a factor: its numbers, or with `bits` a scale for each column and then codes. Leaves in `f` what a
  /// reader has.
  void pass_factor(StreamPort& port, DType source, Factor& f) const {
    if (bits_ == 0) return pass_numbers(port, {StreamLabel::factors, f.rows, f.rank}, NumberFormat::f16, source, f.v);
    const float m = static_cast<float>((1u << (bits_ - 1)) - 1);
    std::vector<float> scale = port.writes() ? column_scales(f, m) : std::vector<float>{};
    pass_numbers(port, {StreamLabel::scales, 1, f.rank}, NumberFormat::f16, source, scale);
    Stream codes = symbol_stream(StreamLabel::factors, f.rows, f.rank, (1u << bits_) - 1);
    if (port.writes()) quantise(f, scale, m, codes);
    port.pass(codes);
    if (port.writes()) return;
    for (std::size_t i = 0; i < f.v.size(); ++i) f.v[i] = (static_cast<float>(codes.data[i]) - m) * scale[i % f.rank];
  }

  static std::vector<float> column_scales(const Factor& f, float m) {
    std::vector<float> scale(f.rank);
    for (std::size_t i = 0; i < f.v.size(); ++i) scale[i % f.rank] = std::max(scale[i % f.rank], std::fabs(f.v[i]) / m);
    return scale;
  }
  static void quantise(Factor& f, const std::vector<float>& scale, float m, Stream& codes) {
    codes.allocate();
    for (std::size_t i = 0; i < f.v.size(); ++i) {
      const float s = scale[i % f.rank];
      const float q = s == 0 ? 0 : std::clamp(std::nearbyint(f.v[i] / s), -m, m);
      codes.data[i] = static_cast<std::uint8_t>(q + m);
      f.v[i] = q * s;
    }
  }

  std::uint64_t rank_ = 4, loops_ = 3, seed_ = 0, bits_ = 0;
  Per per_ = Per::head;
  double share_ = 0, energy_ = 0;
};

}  // namespace

std::unique_ptr<Stage> make_lowrank() {
  return std::make_unique<LowRank>();
}

}  // namespace kvzip
