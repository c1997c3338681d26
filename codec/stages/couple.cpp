// SPDX-License-Identifier: Apache-2.0
// Neighbouring channels of a head coded together: Coupled Quantization (arXiv 2405.03917 section 3). Each group of
// channels has a codebook, the k-means of what its tokens have there. The paper fits codebooks on calibration text,
// weighted by squared gradients; here they are fitted on the tile, weighted by how much an error in the token matters
// to attention, and stored with it.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "codec/fail.hpp"
#include "codec/kernels/rows.hpp"
#include "codec/side.hpp"
#include "codec/splitmix64.hpp"
#include "codec/stages/kmeans.hpp"
#include "codec/stages/stages.hpp"

namespace kvzip {
namespace {

enum class Weight : std::uint8_t { none, saliency };

constexpr std::size_t kLanes = 8;        // entries compared at once
constexpr std::size_t kMostRows = 4096;  // that a codebook is fitted to; of more, evenly spaced ones

/// Group g has the columns edges[g] to edges[g + 1]; each head begins a group.
struct Groups {
  std::vector<std::uint32_t> edges;
  std::uint32_t per_head = 0;  // 0 where heads differ
  std::uint32_t count() const { return static_cast<std::uint32_t>(edges.size() - 1); }
};

/// A weighted k-means of points of a few dimensions. Entries are kept dimension by dimension, so that a point is
/// compared with all of them at once.
class Codebook {
 public:
  Codebook(std::size_t entries, std::size_t dims)
      : entries_(entries), dims_(dims), stride_((entries + kLanes - 1) / kLanes * kLanes) {
    constexpr float kNever = 1e30f;  // entries that fill up the lanes; those of use are near 1
    values_.assign(stride_ * dims, kNever);
    apart_.resize(stride_);
  }

  float& at(std::size_t entry, std::size_t dim) { return values_[dim * stride_ + entry]; }
  void set(std::size_t entry, const float* point) {
    for (std::size_t d = 0; d < dims_; ++d) at(entry, d) = point[d];
  }

  /// The first of the nearest entries.
  std::size_t nearest(const float* point) {
    std::fill(apart_.begin(), apart_.end(), 0.0f);
    for (std::size_t d = 0; d < dims_; ++d) {
      const float x = point[d], *y = values_.data() + d * stride_;
      for (std::size_t k = 0; k < stride_; ++k) apart_[k] += (x - y[k]) * (x - y[k]);
    }
    std::array<float, kLanes> least;
    least.fill(std::numeric_limits<float>::infinity());
    for (std::size_t k = 0; k < stride_; k += kLanes) {
      for (std::size_t l = 0; l < kLanes; ++l) least[l] = apart_[k + l] < least[l] ? apart_[k + l] : least[l];
    }
    const float best = *std::min_element(least.begin(), least.end());
    return static_cast<std::size_t>(std::find(apart_.begin(), apart_.end(), best) - apart_.begin());
  }

  /// Points one after the other, each an entry where there are no more of them. Else entries begin as points drawn by
  /// weight and squared distance from those drawn before (k-means++, Arthur and Vassilvitskii 2007).
  void fit(const std::vector<float>& points, const std::vector<double>& weights, std::size_t rounds,
           std::uint64_t seed) {
    if (weights.size() <= entries_) {
      for (std::size_t i = 0; i < weights.size(); ++i) set(i, points.data() + i * dims_);
      return;
    }
    draw(points, weights, seed);
    std::vector<std::size_t> before(weights.size(), entries_);
    for (std::size_t round = 0; round < rounds; ++round) {
      std::vector<double> sums(entries_ * dims_), all(entries_);
      bool moved = false;
      for (std::size_t i = 0; i < weights.size(); ++i) {
        const float* x = points.data() + i * dims_;
        const std::size_t k = nearest(x);
        moved = moved || k != before[i];
        before[i] = k;
        all[k] += weights[i];
        for (std::size_t d = 0; d < dims_; ++d) sums[k * dims_ + d] += weights[i] * x[d];
      }
      if (!moved) break;
      for (std::size_t k = 0; k < entries_; ++k) {
        for (std::size_t d = 0; d < dims_ && all[k] > 0; ++d)
          at(k, d) = static_cast<float>(sums[k * dims_ + d] / all[k]);
      }
    }
  }

 private:
  void draw(const std::vector<float>& points, const std::vector<double>& weights, std::uint64_t seed) {
    std::vector<double> error = weights;
    std::vector<double> apart(weights.size(), std::numeric_limits<double>::infinity());
    for (std::size_t k = 0; k < entries_; ++k) {
      double sum = 0;
      for (const double e : error) sum += e;
      double left = sum * static_cast<double>(splitmix64(seed, k) >> 11) * 0x1p-53;
      std::size_t i = 0;
      while (i + 1 < error.size() && left >= error[i]) left -= error[i++];
      const float* chosen = points.data() + i * dims_;
      set(k, chosen);
      for (std::size_t j = 0; j < error.size(); ++j) {
        double square = 0;
        for (std::size_t d = 0; d < dims_; ++d) {
          const double x = double{points[j * dims_ + d]} - chosen[d];
          square += x * x;
        }
        apart[j] = std::min(apart[j], square);
        error[j] = weights[j] * apart[j];
      }
    }
  }

  std::size_t entries_, dims_, stride_;
  std::vector<float> values_, apart_;
};

class Couple final : public Cloned<Couple, Stage> {
 public:
  StageKind kind() const override { return StageKind::additive; }
  bool weighs() const override { return weight_ == Weight::saliency; }

  void fields(FieldVisitor& v) override {
    static constexpr std::array<std::string_view, 2> kWeights{"none", "saliency"};
    v.integer("channels", channels_, 1, 64, "neighbouring channels of a head that share a code");
    v.integer("bits", bits_, 1, 8, "bits of a code");
    v.integer("rounds", rounds_, 1, 100, "most rounds of k-means");
    v.choice("weight", weight_, kWeights, "what a token counts in the choice of a codebook");
    v.choice("scale", format_, kNumberFormatNames, "format of codebooks");
  }

  TileShape output(const TileContext& context, TileShape in) const override {
    if (in.cols != context.channels()) fail(ErrorCode::invalid_argument, "couple: a tile without whole heads");
    return in;
  }

  void encode(Tile& tile, EncodeContext& to) const override {
    const Groups groups = groups_of(*tile.context, tile.shape.cols);
    const std::uint32_t entries = entries_of(tile.shape);
    std::vector<float> books(std::size_t{entries} * tile.shape.cols);
    std::vector<Part> parts;
    for (std::uint32_t g = 0; g < groups.count(); ++g) parts.push_back(part_of(tile, groups, g));
    const std::vector<double> weights =
        weight_ == Weight::saliency ? token_weights(tile) : std::vector<double>(tile.shape.rows, 1.0);
    for (const Part& part : parts) fit(tile, weights, part, entries, books);
    pass_books(to.out, tile, entries, books);
    Stream codes = codes_of(tile.shape, groups, entries);
    codes.allocate();
    for (std::uint32_t g = 0; g < groups.count(); ++g) assign(tile, parts[g], entries, books, codes, g);
    std::vector<float> approximation(tile.shape.cols);
    for (std::size_t r = 0; r < tile.shape.rows && to.wanted; ++r) {
      std::fill(approximation.begin(), approximation.end(), 0.0f);
      add_row(groups, codes, books, r, approximation.data());
      tile.subtract_row(r, approximation);
    }
    to.out.pass(codes);
  }

  void decode(Tile& tile, TileShape in, DecodeContext& from) const override {
    const Groups groups = groups_of(*tile.context, in.cols);
    const std::uint32_t entries = entries_of(in);
    std::vector<float> books;
    pass_books(from.in, tile, entries, books);
    Stream codes = codes_of(in, groups, entries);
    from.in.get(codes);
    for (std::size_t r = 0; r < in.rows; ++r) add_row(groups, codes, books, r, tile.row(r));
  }

 private:
  Groups groups_of(const TileContext& context, std::uint32_t cols) const {
    Groups g;
    const std::vector<std::uint32_t> heads = cols == 0 ? std::vector<std::uint32_t>{0} : context.head_edges();
    for (std::size_t h = 0; h + 1 < heads.size(); ++h) {
      for (std::uint64_t c = heads[h]; c < heads[h + 1]; c += channels_)
        g.edges.push_back(static_cast<std::uint32_t>(c));
    }
    g.edges.push_back(cols);
    g.per_head = static_cast<std::uint32_t>((context.head_dim + channels_ - 1) / channels_);
    return g;
  }
  /// No more entries than tokens.
  std::uint32_t entries_of(TileShape shape) const { return std::clamp(shape.rows, 1u, 1u << bits_); }

  /// A group's columns, and the power of two that brings their values near 1, so that squares stay in range.
  struct Part {
    std::uint32_t first, dims;
    float down;
  };
  static Part part_of(const Tile& tile, const Groups& groups, std::uint32_t g) {
    Part part{groups.edges[g], groups.edges[g + 1] - groups.edges[g], 1.0f};
    float largest = 0;
    for (std::size_t r = 0; r < tile.shape.rows; ++r) {
      largest = std::max(largest, kernels::largest_magnitude(tile.row(r) + part.first, part.dims));
    }
    if (largest > 0) part.down = std::ldexp(1.0f, std::clamp(-std::ilogb(largest), -126, 126));
    return part;
  }

  /// The group's codebook, into its columns of `books`.
  void fit(const Tile& tile, const std::vector<double>& all_weights, const Part& part, std::uint32_t entries,
           std::vector<float>& books) const {
    const std::size_t rows = tile.shape.rows, count = std::min(rows, kMostRows);
    if (count == 0) return;
    std::vector<float> points;
    std::vector<double> weights;
    for (std::size_t i = 0; i < count; ++i) {
      const std::size_t r = i * rows / count;
      for (std::size_t d = 0; d < part.dims; ++d) points.push_back(tile.row(r)[part.first + d] * part.down);
      weights.push_back(all_weights[r]);
    }
    Codebook book(entries, part.dims);
    book.fit(points, weights, rounds_, part.first);
    for (std::size_t k = 0; k < entries; ++k) {
      for (std::size_t d = 0; d < part.dims; ++d) {
        books[k * tile.shape.cols + part.first + d] = book.at(k, d) / part.down;
      }
    }
  }

  /// Each token's nearest entry as a reader has it, into column g of the codes.
  static void assign(const Tile& tile, const Part& part, std::uint32_t entries, const std::vector<float>& books,
                     Stream& codes, std::uint32_t g) {
    Codebook book(entries, part.dims);
    std::vector<float> point(part.dims);
    for (std::size_t k = 0; k < entries; ++k) {
      for (std::size_t d = 0; d < part.dims; ++d) {
        book.at(k, d) = books[k * tile.shape.cols + part.first + d] * part.down;
      }
    }
    for (std::size_t r = 0; r < tile.shape.rows; ++r) {
      for (std::size_t d = 0; d < part.dims; ++d) point[d] = tile.row(r)[part.first + d] * part.down;
      codes.data[r * codes.cols + g] = static_cast<std::uint8_t>(book.nearest(point.data()));
    }
  }

  static void add_row(const Groups& groups, const Stream& codes, const std::vector<float>& books, std::size_t r,
                      float* x) {
    const std::uint8_t* code = codes.data.data() + r * groups.count();
    for (std::size_t g = 0; g < groups.count(); ++g) {
      const float* entry = books.data() + std::size_t{code[g]} * groups.edges.back();
      for (std::size_t c = groups.edges[g]; c < groups.edges[g + 1]; ++c) x[c] += entry[c];
    }
  }

  // The streams: the entries of all groups side by side, codes.
  void pass_books(StreamPort& port, const Tile& tile, std::uint32_t entries, std::vector<float>& books) const {
    pass_numbers(port, {StreamLabel::scales, entries, tile.shape.cols}, format_, tile.context->source, books);
  }
  static Stream codes_of(TileShape shape, const Groups& groups, std::uint32_t entries) {
    return symbol_stream(StreamLabel::codes, shape.rows, groups.count(), entries, groups.per_head);
  }

  std::uint64_t channels_ = 4, bits_ = 8, rounds_ = 10;
  Weight weight_ = Weight::saliency;
  NumberFormat format_ = NumberFormat::f16;
};

}  // namespace

std::unique_ptr<Stage> make_couple() {
  return std::make_unique<Couple>();
}

}  // namespace kvzip
