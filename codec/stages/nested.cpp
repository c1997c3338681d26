// SPDX-License-Identifier: Apache-2.0
// Heads along their own orthogonal directions, ordered so that the leading ones serve at any rank: MatryoshkaKV (arXiv
// 2410.14731). The paper starts from principal components and trains them with the model; here they stay what they are
// at the start, the tile's own. Components of all heads stand in one order, the one of most energy first, each stream
// component after component: a smaller rank is a prefix of all of them, and each head's rank follows from the budget.
#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "codec/fail.hpp"
#include "codec/kernels/products.hpp"
#include "codec/limits.hpp"
#include "codec/side.hpp"
#include "codec/stages/klt_basis.hpp"
#include "codec/stages/stages.hpp"
#include "codec/stages/sub_tile.hpp"

namespace kvzip {
namespace {

struct Head {
  std::uint32_t first, dim;
};
std::vector<Head> heads_of(const TileContext& context, TileShape shape) {
  std::vector<Head> heads;
  if (shape.cols == 0) return heads;
  const std::vector<std::uint32_t> edges = context.head_edges();
  for (std::size_t h = 0; h + 1 < edges.size(); ++h) heads.push_back({edges[h], edges[h + 1] - edges[h]});
  return heads;
}

/// What is stored: of each component its head, its direction, as wide as the widest head, and what every token has of
/// it.
struct Components {
  std::uint32_t count = 0, width = 0;
  std::vector<std::uint16_t> head;
  std::vector<float> directions, coefficients;
};

/// Keeps copies of the streams that pass.
class Recorder final : public StreamReader {
 public:
  explicit Recorder(StreamReader& in) : in_(in) {}
  void get(Stream& stream) override {
    in_.get(stream);
    streams.push_back(stream);
  }
  std::vector<Stream> streams;

 private:
  StreamReader& in_;
};

float bounded(double x) {
  constexpr double kMost = std::numeric_limits<float>::max();
  return static_cast<float>(std::clamp(x, -kMost, kMost));
}

class Nested final : public Cloned<Nested, Stage> {
 public:
  StageKind kind() const override { return StageKind::additive; }

  void fields(FieldVisitor& v) override {
    v.real("share", share_, 0, 1, "components of all heads together, as a share of the channels");
    v.integer("bits", bits_, 0, 8, "bits of a coefficient; f16: half precision", "f16");
    v.integer("group", group_, 0, 1u << 30, "tokens of a component per scale", "all");
    v.choice("scale", format_, kNumberFormatNames, "format of scales and minima");
  }

  void check() override {
    if (bits_ == 0) return;
    quant_ = nested_quant("bits=" + std::to_string(bits_) +
                          " axis=token group=" + (group_ == 0 ? "all" : std::to_string(group_)) +
                          " scale=" + std::string(kNumberFormatNames[static_cast<std::size_t>(format_)]));
  }

  TileShape output(const TileContext& context, TileShape in) const override {
    if (in.cols != context.channels()) fail(ErrorCode::invalid_argument, "nested: a tile without whole heads");
    const std::vector<Head> heads = heads_of(context, in);
    if (heads.size() > std::size_t{1} << 16) fail(ErrorCode::limit, "nested: {} heads in one tile", heads.size());
    if (std::uint64_t{most(heads, in, share_)} * widest(heads) > limits::kFrameValues) {
      fail(ErrorCode::limit, "nested: directions of more than 2^30 numbers");
    }
    return in;
  }

  double work(const TileContext& context, TileShape in) const override {
    const std::vector<Head> heads = heads_of(context, in);
    return (in.rows + 1.0) * most(heads, in, share_) * widest(heads);
  }

  void encode(Tile& tile, EncodeContext& to) const override {
    const std::vector<Head> heads = heads_of(*tile.context, tile.shape);
    Components all = find(tile, heads);
    pass_directions(to.out, *tile.context, all);
    project(tile, heads, all);
    const TileContext context = coefficient_context(*tile.context, tile.shape);
    if (quant_ == nullptr) {
      pass_coefficients(to.out, context, tile.shape, all);
    } else {
      Tile coefficients = as_tile(context, tile.shape, all);
      EncodeContext nested{to.out, to.wanted};
      quant_->encode(coefficients, nested);
      for (std::size_t i = 0; i < all.coefficients.size(); ++i) all.coefficients[i] -= coefficients.values[i];
    }
    if (!to.wanted) return;
    std::vector<float> row(tile.shape.cols);
    for (std::size_t r = 0; r < tile.shape.rows; ++r) {
      std::fill(row.begin(), row.end(), 0.0f);
      add_row(heads, all, tile.shape.rows, r, row.data());
      tile.subtract_row(r, row);
    }
  }

  void decode(Tile& tile, TileShape in, DecodeContext& from) const override {
    const std::vector<Head> heads = heads_of(*tile.context, in);
    Components all = read(*tile.context, heads, in, from.in);
    for (std::size_t r = 0; r < in.rows; ++r) add_row(heads, all, in.rows, r, tile.row(r));
  }

  std::unique_ptr<Stage> cut_to(double share) const override {
    auto out = std::make_unique<Nested>(*this);
    out->share_ = std::min(share_, share);
    return out;
  }

  void cut(const TileContext& context, TileShape in, double share, StreamReader& from,
           StreamWriter& out) const override {
    const std::vector<Head> heads = heads_of(context, in);
    Recorder recorder(from);
    std::uint32_t kept = read(context, heads, in, recorder).count;
    kept = std::min(kept, most(heads, in, share));
    pass_integer(out, StreamLabel::flags, kept);
    for (std::size_t i = 1; i < recorder.streams.size(); ++i) {
      Stream& s = recorder.streams[i];
      if (s.label != StreamLabel::flags) {  // what is not one power of two for all has a row for each component
        s.rows = kept;
        s.data.resize(s.size());
      }
      out.put(std::move(s));
    }
  }

 private:
  static std::uint32_t widest(const std::vector<Head>& heads) {
    std::uint32_t width = 0;
    for (const Head& h : heads) width = std::max(width, h.dim);
    return width;
  }
  /// Components for this share: of a head there are no more than it has channels or tokens.
  static std::uint32_t most(const std::vector<Head>& heads, TileShape shape, double share) {
    std::uint64_t there = 0;
    for (const Head& h : heads) there += std::min(h.dim, shape.rows);
    const auto wanted = static_cast<std::uint64_t>(std::floor(share * shape.cols));
    return static_cast<std::uint32_t>(std::min(there, wanted));
  }

  /// A head's directions, and the energy of each.
  struct Found {
    std::vector<float> basis;
    std::vector<double> energy;
  };
  static Found principal(const Tile& tile, Head head) {
    const std::size_t count = std::min(head.dim, tile.shape.rows);
    const std::vector<float> zero(head.dim);
    double largest = 0;
    for (std::size_t r = 0; r < tile.shape.rows; ++r) {
      const float* x = tile.row(r) + head.first;
      for (std::size_t c = 0; c < head.dim; ++c) largest = std::max(largest, std::fabs(double{x[c]}));
    }
    Found out{{}, std::vector<double>(count)};
    if (largest == 0) {
      out.basis.assign(count * head.dim, 0.0f);
      return out;
    }
    const int exponent = std::clamp(-std::ilogb(largest), -126, 126);
    const KltPart part{tile.values.data() + head.first, tile.shape.rows, head.dim, tile.shape.cols, zero.data(),
                       std::ldexp(1.0f, exponent)};
    out.basis = klt_basis(part, count);
    const std::vector<float> z = klt_coefficients(part, out.basis, count);
    for (std::size_t i = 0; i < z.size(); ++i) out.energy[i % count] += double{z[i]} * z[i];
    for (std::size_t k = 0; k < count; ++k) {
      out.energy[k] = std::ldexp(out.energy[k], -2 * exponent);
      if (k > 0) out.energy[k] = std::min(out.energy[k], out.energy[k - 1]);  // nested, whatever rounding says
    }
    return out;
  }

  /// The components of most energy, of equals those of the first head; a head's own stay in their order.
  Components find(const Tile& tile, const std::vector<Head>& heads) const {
    struct Place {
      double energy;
      std::size_t head, k;
    };
    std::vector<Found> found;
    std::vector<Place> order;
    for (std::size_t h = 0; h < heads.size(); ++h) {
      found.push_back(principal(tile, heads[h]));
      for (std::size_t k = 0; k < found[h].energy.size(); ++k) order.push_back({found[h].energy[k], h, k});
    }
    std::stable_sort(order.begin(), order.end(), [](const Place& a, const Place& b) { return a.energy > b.energy; });
    Components all;
    all.count = most(heads, tile.shape, share_);
    all.width = widest(heads);
    all.directions.resize(std::size_t{all.count} * all.width);
    for (std::size_t i = 0; i < all.count; ++i) {
      const Place& p = order[i];
      const std::size_t dim = heads[p.head].dim;
      all.head.push_back(static_cast<std::uint16_t>(p.head));
      std::copy_n(found[p.head].basis.data() + p.k * dim, dim, all.directions.data() + i * all.width);
    }
    return all;
  }

  /// Coefficients of the stored directions.
  static void project(const Tile& tile, const std::vector<Head>& heads, Components& all) {
    all.coefficients.resize(std::size_t{all.count} * tile.shape.rows);
    for (std::size_t i = 0; i < all.count; ++i) {
      const Head head = heads[all.head[i]];
      const float* direction = all.directions.data() + i * all.width;
      for (std::size_t r = 0; r < tile.shape.rows; ++r) {
        const float* x = tile.row(r) + head.first;
        double sum = 0;
        for (std::size_t c = 0; c < head.dim; ++c) sum += double{x[c]} * direction[c];
        all.coefficients[i * tile.shape.rows + r] = bounded(sum);
      }
    }
  }

  static void add_row(const std::vector<Head>& heads, const Components& all, std::size_t rows, std::size_t r,
                      float* row) {
    for (std::size_t i = 0; i < all.count; ++i) {
      const Head head = heads[all.head[i]];
      kernels::add_multiple(all.directions.data() + i * all.width, head.dim, all.coefficients[i * rows + r],
                            row + head.first);
    }
  }

  // The streams: the number of components, their heads, directions and coefficients.
  static void pass_directions(StreamPort& port, const TileContext& context, Components& all) {
    if (port.writes()) pass_integer(port, StreamLabel::flags, all.count);
    Stream head = element_stream(StreamLabel::positions, all.count, 1, 2);
    for (const std::uint16_t h : all.head) {
      head.data.push_back(static_cast<std::uint8_t>(h & 255));
      head.data.push_back(static_cast<std::uint8_t>(h >> 8));
    }
    port.pass(head);
    if (!port.writes()) {
      for (std::size_t i = 0; i < all.count; ++i) {
        all.head.push_back(static_cast<std::uint16_t>(head.data[2 * i] | head.data[2 * i + 1] << 8));
      }
    }
    pass_numbers(port, {StreamLabel::factors, all.count, all.width}, NumberFormat::f16, context.source, all.directions);
  }
  static void pass_coefficients(StreamPort& port, const TileContext& context, TileShape shape, Components& all) {
    pass_numbers(port, {StreamLabel::factors, all.count, shape.rows}, NumberFormat::f16, context.source,
                 all.coefficients);
  }
  Components read(const TileContext& tile_context, const std::vector<Head>& heads, TileShape in,
                  StreamReader& from) const {
    Components all;
    pass_integer(from, StreamLabel::flags, all.count);
    if (all.count > most(heads, in, share_)) fail(ErrorCode::corrupt, "{} components", all.count);
    all.width = widest(heads);
    pass_directions(from, tile_context, all);
    for (const std::uint16_t h : all.head) {
      if (h >= heads.size()) fail(ErrorCode::corrupt, "a component of head {} of {}", h, heads.size());
    }
    const TileContext context = coefficient_context(tile_context, in);
    if (quant_ == nullptr) {
      pass_coefficients(from, context, in, all);
      return all;
    }
    all.coefficients.assign(std::size_t{all.count} * in.rows, 0.0f);
    Tile coefficients = as_tile(context, in, all);
    DecodeContext nested{from};
    quant_->decode(coefficients, coefficients.shape, nested);
    std::copy(coefficients.values.begin(), coefficients.values.end(), all.coefficients.begin());
    return all;
  }

  /// Components are the rows of the quantised matrix, tokens its columns.
  static TileContext coefficient_context(const TileContext& context, TileShape shape) {
    TileContext c;
    c.role = context.role;
    c.heads = 1;
    c.head_dim = shape.rows;
    c.source = context.source;
    return c;
  }
  static Tile as_tile(const TileContext& context, TileShape shape, const Components& all) {
    Tile tile(context, {all.count, shape.rows, 0, false, false});
    std::copy(all.coefficients.begin(), all.coefficients.end(), tile.values.begin());
    return tile;
  }

  double share_ = 0.5;
  std::uint64_t bits_ = 0, group_ = 0;
  NumberFormat format_ = NumberFormat::f16;
  std::shared_ptr<const Stage> quant_;
};

}  // namespace

std::unique_ptr<Stage> make_nested() {
  return std::make_unique<Nested>();
}

}  // namespace kvzip
