// SPDX-License-Identifier: Apache-2.0
// Block floating point: groups of channels share a power of two, elements are short numbers below it.
//   int           signed mantissas of `bits` bits (arXiv 2403.20137, BFP12 is bits=4; OCP MXINT8 is bits=8)
//   e2m1 to e5m2  the element types of MXFP4, MXFP6 and MXFP8 (OCP Microscaling Formats 1.0, sections 5.3 and 6.3)
// order=magnitude sorts the channels of a head by their energy before they are grouped, so that a large one does not
// take the bits of small ones (arXiv 2403.20137 section 3; there the rows of the weights are sorted, once).
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <numeric>

#include "codec/fail.hpp"
#include "codec/kernels/rows.hpp"
#include "codec/side.hpp"
#include "codec/stages/stages.hpp"

namespace kvzip {
namespace {

enum class Type : std::uint8_t { integer, e2m1, e2m3, e3m2, e4m3, e5m2 };
enum class Order : std::uint8_t { channel, magnitude };

/// Magnitudes 0 to `top` of an element in ascending order: a small float of `stored` mantissa bits whose numbers below
/// 2^least are evenly spaced. `most` is the exponent of the largest.
struct Magnitudes {
  int stored, least, most;
  std::uint32_t top;

  float value(std::uint32_t i) const {
    const auto whole = std::uint32_t{1} << stored;
    const std::uint32_t binade = std::max(i >> stored, 1u);
    return std::ldexp(static_cast<float>(i - (binade - 1) * whole), least - stored + static_cast<int>(binade) - 1);
  }
  /// The nearest one, of two equally near ones the even one; `x` at least 0 and below 2^(most + 1).
  std::uint32_t nearest(float x) const {
    const int exponent = std::max(static_cast<int>(std::bit_cast<std::uint32_t>(x) >> 23) - 127, least);
    const float unit = std::bit_cast<float>(static_cast<std::uint32_t>(stored - exponent + 127) << 23);
    constexpr float kRound = 0x1.8p23f;
    const float n = (x * unit + kRound) - kRound;
    return std::min(static_cast<std::uint32_t>(n) + (static_cast<std::uint32_t>(exponent - least) << stored), top);
  }
};

constexpr int kBias = 127;
constexpr int kMostCode = 254;  // 255 is NaN in OCP's E8M0

/// Where the groups of a tile are: group g has the places edges[g] to edges[g + 1], and place p the channel order[p].
struct Groups {
  std::vector<std::uint32_t> heads, edges, order;
  std::uint32_t count() const { return static_cast<std::uint32_t>(edges.size() - 1); }
};

class Bfp final : public Cloned<Bfp, Stage> {
 public:
  StageKind kind() const override { return StageKind::additive; }
  bool begins() const override { return true; }

  void fields(FieldVisitor& v) override {
    static constexpr std::array<std::string_view, 6> kTypes{"int", "e2m1", "e2m3", "e3m2", "e4m3", "e5m2"};
    static constexpr std::array<std::string_view, 2> kOrders{"channel", "magnitude"};
    v.choice("type", type_, kTypes, "elements: signed integers, or floats of so many exponent and mantissa bits");
    v.integer("bits", bits_, 2, 8, "bits of an element of type int, its sign included");
    v.integer("group", group_, 1, 65536, "channels of a token's head that share an exponent");
    v.choice("order", order_, kOrders, "channels as they stand, or of each head the largest first");
  }

  TileShape output(const TileContext& context, TileShape in) const override {
    if (in.cols != context.channels()) fail(ErrorCode::invalid_argument, "bfp: a tile without whole heads");
    return in;
  }

  void encode(Tile& tile, EncodeContext& to) const override {
    Groups g = groups(*tile.context, tile.shape.cols);
    if (order_ == Order::magnitude) sort_by_energy(tile, g);
    pass_order(to.out, g);
    const Magnitudes m = magnitudes();
    Stream exponents = exponent_stream(tile.shape, g), codes = code_stream(*tile.context, tile.shape, 2 * m.top + 1);
    exponents.allocate();
    codes.allocate();
    std::vector<float> approximation(tile.shape.cols);
    const std::vector<float> levels = level_values(m);
    to.finite = true;
    for (std::size_t r = 0; r < tile.shape.rows; ++r) {
      std::uint8_t* e = exponents.data.data() + r * g.count();
      std::uint8_t* q = codes.data.data() + r * tile.shape.cols;
      for (std::size_t i = 0; i < g.count(); ++i) e[i] = encode_group(g, i, m, tile.row(r), q);
      if (!to.wanted) continue;
      std::fill(approximation.begin(), approximation.end(), 0.0f);
      add_row(g, levels, e, q, approximation.data());
      tile.subtract_row(r, approximation);
      to.finite = to.finite && kernels::all_finite(tile.row(r), tile.shape.cols);
    }
    to.out.pass(exponents);
    to.out.pass(codes);
  }

  void decode(Tile& tile, TileShape in, DecodeContext& from) const override {
    Groups g = groups(*tile.context, in.cols);
    pass_order(from.in, g);
    const Magnitudes m = magnitudes();
    Stream exponents = exponent_stream(in, g), codes = code_stream(*tile.context, in, 2 * m.top + 1);
    from.in.get(exponents);
    from.in.get(codes);
    const std::vector<float> levels = level_values(m);
    if (from.blank) std::fill(tile.values.begin(), tile.values.end(), 0.0f);
    for (std::size_t r = 0; r < in.rows; ++r) {
      add_row(g, levels, exponents.data.data() + r * g.count(), codes.data.data() + r * in.cols, tile.row(r));
    }
  }

 private:
  Magnitudes magnitudes() const {
    switch (type_) {
      case Type::integer:
        break;
      case Type::e2m1:
        return {1, 0, 2, 7};
      case Type::e2m3:
        return {3, 0, 2, 31};
      case Type::e3m2:
        return {2, -2, 4, 31};
      case Type::e4m3:
        return {3, -6, 8, 126};  // 127 is NaN
      case Type::e5m2:
        return {2, -14, 15, 123};  // infinity and NaN beyond
    }
    return {static_cast<int>(bits_) - 2, 0, 0, (1u << (bits_ - 1)) - 1};
  }
  static std::vector<float> level_values(const Magnitudes& m) {
    std::vector<float> levels(2 * m.top + 1);
    for (std::uint32_t i = 0; i <= m.top; ++i) {
      levels[m.top + i] = m.value(i);
      levels[m.top - i] = i == 0 ? 0.0f : -m.value(i);
    }
    return levels;
  }
  static float power(int code) { return std::ldexp(1.0f, code - kBias); }

  Groups groups(const TileContext& context, std::uint32_t cols) const {
    Groups g;
    g.heads = cols == 0 ? std::vector<std::uint32_t>{0} : context.head_edges();
    for (std::size_t h = 0; h + 1 < g.heads.size(); ++h) {
      for (std::uint64_t c = g.heads[h]; c < g.heads[h + 1]; c += group_) {
        g.edges.push_back(static_cast<std::uint32_t>(c));
      }
    }
    g.edges.push_back(cols);
    g.order.resize(cols);
    std::iota(g.order.begin(), g.order.end(), 0u);
    return g;
  }

  static void sort_by_energy(const Tile& tile, Groups& g) {
    std::vector<double> energy(tile.shape.cols);
    for (std::size_t r = 0; r < tile.shape.rows; ++r) {
      const float* x = tile.row(r);
      for (std::size_t c = 0; c < energy.size(); ++c) energy[c] += double{x[c]} * x[c];
    }
    for (std::size_t h = 0; h + 1 < g.heads.size(); ++h) {
      std::stable_sort(g.order.begin() + g.heads[h], g.order.begin() + g.heads[h + 1],
                       [&](std::uint32_t a, std::uint32_t b) { return energy[a] > energy[b]; });
    }
  }

  /// One group of a row to codes; returns the exponent's.
  static std::uint8_t encode_group(const Groups& g, std::size_t group, const Magnitudes& m, const float* x,
                                   std::uint8_t* codes) {
    float largest = 0;
    for (std::size_t p = g.edges[group]; p < g.edges[group + 1]; ++p) {
      largest = std::max(largest, std::fabs(x[g.order[p]]));
    }
    const int code = largest == 0 ? 0 : std::clamp(std::ilogb(largest) - m.most + kBias, 0, kMostCode);
    const float factor = power(2 * kBias - code);
    for (std::size_t p = g.edges[group]; p < g.edges[group + 1]; ++p) {
      const float v = x[g.order[p]];
      const std::uint32_t n = m.nearest(std::fabs(v) * factor);
      codes[p] = static_cast<std::uint8_t>(v < 0 ? m.top - n : m.top + n);
    }
    return static_cast<std::uint8_t>(code);
  }

  static void add_row(const Groups& g, const std::vector<float>& levels, const std::uint8_t* exponents,
                      const std::uint8_t* codes, float* x) {
    for (std::size_t i = 0; i < g.count(); ++i) {
      const float scale = power(exponents[i]);
      for (std::size_t p = g.edges[i]; p < g.edges[i + 1]; ++p) x[g.order[p]] += levels[codes[p]] * scale;
    }
  }

  static Stream exponent_stream(TileShape shape, const Groups& g) {
    return element_stream(StreamLabel::scales, shape.rows, g.count(), 1);
  }

  /// The stream of the order: at each place of a head, which of its channels stands there.
  void pass_order(StreamPort& port, Groups& g) const {
    if (order_ == Order::channel) return;
    std::uint32_t widest = 1;
    for (std::size_t h = 0; h + 1 < g.heads.size(); ++h) widest = std::max(widest, g.heads[h + 1] - g.heads[h]);
    const std::size_t width = widest <= 256 ? 1 : widest <= 65536 ? 2 : 4;
    Stream s = element_stream(StreamLabel::positions, 1, static_cast<std::uint32_t>(g.order.size()), width);
    if (port.writes()) {
      s.allocate();
      for_each_place(g, [&](std::size_t place, std::uint32_t first, std::uint32_t) {
        for (std::size_t b = 0; b < width; ++b) {
          s.data[place * width + b] = static_cast<std::uint8_t>((g.order[place] - first) >> 8 * b);
        }
      });
    }
    port.pass(s);
    if (port.writes()) return;
    std::vector<bool> seen(g.order.size());
    for_each_place(g, [&](std::size_t place, std::uint32_t first, std::uint32_t end) {
      std::uint64_t channel = first;
      for (std::size_t b = 0; b < width; ++b) channel += std::uint64_t{s.data[place * width + b]} << 8 * b;
      if (channel >= end || seen[channel]) fail(ErrorCode::corrupt, "bfp: an order that is none");
      seen[channel] = true;
      g.order[place] = static_cast<std::uint32_t>(channel);
    });
  }
  /// use(place, the first channel of its head, the end of it).
  template <typename F>
  static void for_each_place(const Groups& g, F&& use) {
    for (std::size_t h = 0; h + 1 < g.heads.size(); ++h) {
      for (std::size_t place = g.heads[h]; place < g.heads[h + 1]; ++place) use(place, g.heads[h], g.heads[h + 1]);
    }
  }

  Type type_ = Type::integer;
  std::uint64_t bits_ = 8, group_ = 32;
  Order order_ = Order::channel;
};

}  // namespace

std::unique_ptr<Stage> make_bfp() {
  return std::make_unique<Bfp>();
}

}  // namespace kvzip
