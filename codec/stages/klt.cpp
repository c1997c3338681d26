// SPDX-License-Identifier: Apache-2.0
// The transform coder of KVTC (arXiv 2511.01815): channels are centred and projected on the eigenvectors of
// their covariance, D = (X - mu) V; a dynamic programme gives groups of components 0, 2, 4 or 8 bits. The paper fits
// mu, V and the allocation on calibration text over all layers and keeps them apart from the cache; here they are
// fitted on this very tile and stored with it. Its 8-bit type is FP8; here 8 bits are uniform codes as 2 and 4 are.
#include <algorithm>
#include <array>
#include <cmath>

#include "codec/fail.hpp"
#include "codec/kernels/products.hpp"
#include "codec/kernels/rows.hpp"
#include "codec/side.hpp"
#include "codec/stages/klt_basis.hpp"
#include "codec/stages/klt_bits.hpp"
#include "codec/stages/stages.hpp"

namespace kvzip {
namespace {

enum class Per : std::uint8_t { tile, head };
using Widths = std::array<std::uint32_t, kKltBits.size()>;

/// `parts` windows of `cols` columns each, with at most `most` components.
struct Windows {
  std::uint32_t parts, cols, most;
};
/// A group of columns of the coefficients, which hold the coded components of all parts side by side.
struct CodedGroup {
  std::uint32_t size = 0, type = 0;    // place in kKltBits
  std::uint32_t column = 0, code = 0;  // first of its columns; the same among the codes of its type
};

/// What a tile is stored as, but for the codes.
struct Layout {
  std::vector<std::uint32_t> components, groups_of;  // of each part
  std::vector<CodedGroup> groups;
  std::uint32_t columns = 0;  // of all groups
  Widths widths{};            // the same by type

  void add_part() {
    components.push_back(0);
    groups_of.push_back(0);
  }
  void add(std::uint32_t size, std::uint32_t type) {
    groups.push_back({size, type, columns, widths[type]});
    columns += size;
    widths[type] += size;
    components.back() += size;
    ++groups_of.back();
  }
};

/// The streams: groups of each part, then the groups, one byte each. No part may name more components than it has:
/// everything that is allocated later follows from that.
void pass_layout(StreamPort& port, const Windows& windows, Layout& layout) {
  std::vector<std::uint32_t> groups_of = layout.groups_of;
  groups_of.resize(windows.parts);
  pass_integers(port, StreamLabel::flags, std::span<std::uint32_t>(groups_of));
  std::uint64_t sum = 0;
  for (const std::uint32_t count : groups_of) {
    if (count > windows.most) fail(ErrorCode::corrupt, "{} groups of {} components", count, windows.most);
    sum += count;
  }
  std::vector<std::uint8_t> table(sum);  // parts x most is at most the columns
  if (port.writes()) {
    for (std::size_t i = 0; i < table.size(); ++i) {
      const auto size = std::find(kKltSizes.begin(), kKltSizes.end(), layout.groups[i].size) - kKltSizes.begin();
      table[i] = static_cast<std::uint8_t>(4 * static_cast<unsigned>(size) + layout.groups[i].type + 1);
    }
  }
  pass_integers(port, StreamLabel::flags, std::span(table));
  if (port.writes()) return;
  std::size_t next = 0;
  for (const std::uint32_t count : groups_of) {
    layout.add_part();
    for (std::uint32_t i = 0; i < count; ++i) {
      const unsigned entry = table[next++], size = entry / 4, type = entry % 4;
      if (size >= kKltSizes.size() || type == 0) fail(ErrorCode::corrupt, "an unknown group {}", entry);
      if (kKltSizes[size] > windows.most - layout.components.back()) {
        fail(ErrorCode::corrupt, "groups of more than {} components", windows.most);
      }
      layout.add(kKltSizes[size], type - 1);
    }
  }
}

/// All that a tile is stored as. Means of the channels; the basis, channels x layout.columns; of each row and group a
/// scale and a shift; codes by type.
struct Stored {
  std::vector<float> mean, basis, scales, shifts;
  Layout layout;
  std::array<Stream, kKltBits.size()> codes;
};

class Klt final : public Cloned<Klt, Stage> {
 public:
  StageKind kind() const override { return StageKind::additive; }

  void fields(FieldVisitor& v) override {
    static constexpr std::array<std::string_view, 2> kPer{"tile", "head"};
    v.real("bits", bits_, 0.01, 40, "bits per value for codes, scales and shifts; the basis comes on top");
    v.choice("per", per_, kPer, "one basis for the tile or one per head");
  }

  void encode(Tile& tile, EncodeContext& to) const override {
    const Windows windows = make_windows(*tile.context, tile.shape);
    const std::uint32_t rows = tile.shape.rows;
    Stored s;
    s.mean = column_means(tile);
    pass_mean(to.out, tile, s);
    const Fit fit = fit_tile(tile, windows, s);
    s.basis = by_channel(windows, s.layout, fit.basis);
    measure_ranges(fit, rows, s);
    pass_basis(to.out, tile, windows, s);
    const std::vector<float> coefficients = quantise(fit, rows, s);
    pass_codes(to.out, s);
    if (!to.wanted) return;
    const std::vector<float> vectors = by_vector(windows, s.layout, s.basis);
    for (std::size_t t = 0; t < rows; ++t) {
      tile.subtract_row(t, s.mean);
      const std::uint8_t* taken = tile.taken.empty() ? nullptr : tile.taken.data() + t * tile.shape.cols;
      for_each_part(windows, s.layout, coefficients.data() + t * s.layout.columns, vectors,
                    [&](const float* d, const kernels::Parts& part, std::size_t column) {
                      kernels::subtract_products(d, part, taken == nullptr ? nullptr : taken + column,
                                                 tile.row(t) + column);
                    });
    }
  }

  void decode(Tile& tile, TileShape in, DecodeContext& from) const override {
    const Windows windows = make_windows(*tile.context, in);
    Stored s;
    pass_mean(from.in, tile, s);
    pass_basis(from.in, tile, windows, s);
    pass_codes(from.in, s);
    const std::size_t groups = s.layout.groups.size();
    const std::vector<float> vectors = by_vector(windows, s.layout, s.basis);
    std::vector<float> d(s.layout.columns);
    for (std::size_t t = 0; t < in.rows; ++t) {
      for (std::size_t g = 0; g < groups; ++g) {
        const CodedGroup& group = s.layout.groups[g];
        const float scale = s.scales[t * groups + g], shift = s.shifts[t * groups + g];
        const std::uint8_t* q = s.codes[group.type].data.data() + t * s.layout.widths[group.type] + group.code;
        for (std::size_t i = 0; i < group.size; ++i) d[group.column + i] = static_cast<float>(q[i]) * scale + shift;
      }
      float* row = tile.row(t);
      for (std::size_t c = 0; c < in.cols; ++c) row[c] += s.mean[c];
      for_each_part(
          windows, s.layout, d.data(), vectors,
          [&](const float* q, const kernels::Parts& part, std::size_t c) { kernels::add_products(q, part, row + c); });
    }
  }

 private:
  // The streams, in their order.
  static void pass_mean(StreamPort& port, const Tile& tile, Stored& s) {
    pass_numbers(port, {StreamLabel::scales, std::min(tile.shape.rows, 1u), tile.shape.cols}, NumberFormat::f16,
                 tile.context->source, s.mean);
  }
  static void pass_basis(StreamPort& port, const Tile& tile, const Windows& windows, Stored& s) {
    const DType source = tile.context->source;
    pass_layout(port, windows, s.layout);
    pass_numbers(port, {StreamLabel::factors, windows.cols, s.layout.columns}, NumberFormat::f16, source, s.basis);
    const NumberShape ranges{StreamLabel::scales, tile.shape.rows, static_cast<std::uint32_t>(s.layout.groups.size())};
    pass_numbers(port, ranges, NumberFormat::f16, source, s.scales);
    pass_numbers(port, ranges, NumberFormat::f16, source, s.shifts);
    for (std::size_t type = 0; type < s.codes.size(); ++type) {
      s.codes[type] =
          symbol_stream(StreamLabel::codes, tile.shape.rows, s.layout.widths[type], std::uint64_t{1} << kKltBits[type]);
    }
  }
  static void pass_codes(StreamPort& port, Stored& s) {
    for (Stream& codes : s.codes) port.pass(codes);
  }

  /// What is measured on a tile. Coefficients: rows x layout.columns; basis: a vector for each of these columns, as
  /// long as its part is wide.
  struct Fit {
    std::vector<float> basis, coefficients;
  };

  Windows make_windows(const TileContext& context, TileShape shape) const {
    const std::uint32_t parts = per_ == Per::head ? std::max(1u, context.heads) : 1;
    const std::uint32_t cols = shape.cols / parts;
    return {parts, cols, std::min(cols, shape.rows)};
  }

  static std::vector<float> column_means(const Tile& tile) {
    const std::size_t cols = tile.shape.cols;
    std::vector<double> sum(cols);
    for (std::size_t t = 0; t < tile.shape.rows; ++t) {
      for (std::size_t c = 0; c < cols; ++c) sum[c] += double{tile.row(t)[c]};
    }
    std::vector<float> mean(tile.shape.rows == 0 ? 0 : cols);
    for (std::size_t c = 0; c < mean.size(); ++c) mean[c] = static_cast<float>(sum[c] / tile.shape.rows);
    return mean;
  }

  /// Of `s` it has the mean and gets the layout.
  Fit fit_tile(const Tile& tile, const Windows& windows, Stored& s) const {
    Fit fit;
    std::vector<std::vector<float>> coded(windows.parts);  // coefficients of each part
    for (std::uint32_t p = 0; p < windows.parts; ++p) {
      s.layout.add_part();
      if (windows.most != 0) coded[p] = fit_part(tile, windows, p, s, fit);
    }
    fit.coefficients.reserve(std::size_t{tile.shape.rows} * s.layout.columns);
    for (std::size_t t = 0; t < tile.shape.rows; ++t) {
      for (std::uint32_t p = 0; p < windows.parts; ++p) {
        const std::size_t n = s.layout.components[p];
        const auto row = coded[p].begin() + static_cast<std::ptrdiff_t>(t * n);
        fit.coefficients.insert(fit.coefficients.end(), row, row + static_cast<std::ptrdiff_t>(n));
      }
    }
    return fit;
  }

  /// Appends a part's groups and vectors; returns the coefficients of its coded components.
  std::vector<float> fit_part(const Tile& tile, const Windows& windows, std::uint32_t p, Stored& s, Fit& fit) const {
    const std::size_t first = std::size_t{p} * windows.cols, rows = tile.shape.rows;
    KltPart part{tile.values.data() + first, rows, windows.cols, tile.shape.cols, s.mean.data() + first, 1};
    float largest = 0;
    for (std::size_t t = 0; t < rows; ++t) {
      for (std::size_t c = 0; c < windows.cols; ++c) {
        largest = std::max(largest, std::fabs(part.x[t * part.stride + c] / 2 - part.mean[c] / 2));
      }
    }
    if (largest == 0) return {};
    const int exponent = std::min(std::ilogb(largest) + 1, 126);  // what is analysed lies between -2 and 2
    part.factor = std::ldexp(1.0f, std::min(-exponent, 127));
    const std::vector<float> basis = klt_basis(part, windows.most);
    const std::vector<float> all = klt_coefficients(part, basis, windows.most);
    const auto budget = static_cast<std::uint64_t>(bits_ * windows.cols);
    const auto groups = allocate_klt_bits(measure_klt_errors(all.data(), rows, windows.most), budget);
    std::vector<std::uint32_t> kept;
    for (const KltGroup& g : groups) {
      const auto type = std::find(kKltBits.begin(), kKltBits.end(), g.bits) - kKltBits.begin();
      s.layout.add(g.size, static_cast<std::uint32_t>(type));
      for (std::uint32_t i = 0; i < g.size; ++i) kept.push_back(g.first + i);
    }
    for (const std::size_t k : kept) {
      const auto vector = basis.begin() + static_cast<std::ptrdiff_t>(k * windows.cols);
      fit.basis.insert(fit.basis.end(), vector, vector + windows.cols);
    }
    std::vector<float> coded;
    coded.reserve(rows * kept.size());
    for (std::size_t t = 0; t < rows; ++t) {
      for (const std::size_t k : kept) coded.push_back(finite(double{all[t * windows.most + k]} / part.factor));
    }
    return coded;
  }

  static float finite(double x) {
    constexpr double kLargest = 0x1.fffffep127;
    return static_cast<float>(std::clamp(x, -kLargest, kLargest));
  }

  static void measure_ranges(const Fit& fit, std::uint32_t rows, Stored& s) {
    for (std::size_t t = 0; t < rows; ++t) {
      for (const CodedGroup& g : s.layout.groups) {
        const float* x = fit.coefficients.data() + t * s.layout.columns + g.column;
        float low = x[0], high = x[0];
        kernels::min_max(x, g.size, &low, &high);
        const KltRange range = klt_range(low, high, kKltBits[g.type]);
        s.scales.push_back(range.scale);
        s.shifts.push_back(finite(double{range.shift}));
      }
    }
  }

  /// Sets the codes; returns the coefficients that a reader will have.
  static std::vector<float> quantise(const Fit& fit, std::uint32_t rows, Stored& s) {
    const std::size_t groups = s.layout.groups.size();
    std::vector<float> decoded(fit.coefficients.size());
    for (Stream& codes : s.codes) codes.allocate();
    for (std::size_t t = 0; t < rows; ++t) {
      for (std::size_t g = 0; g < groups; ++g) {
        const CodedGroup& group = s.layout.groups[g];
        const KltRange range{s.scales[t * groups + g], s.shifts[t * groups + g]};
        const std::size_t at = t * s.layout.columns + group.column;
        std::uint8_t* q = s.codes[group.type].data.data() + t * s.layout.widths[group.type] + group.code;
        for (std::size_t i = 0; i < group.size; ++i) {
          const float code = klt_code(fit.coefficients[at + i], range, kKltBits[group.type]);
          q[i] = static_cast<std::uint8_t>(code);
          decoded[at + i] = code * range.scale + range.shift;
        }
      }
    }
    return decoded;
  }

  /// Vectors of a part are `cols` long: from each in one piece to channels x columns, and back.
  static std::vector<float> by_channel(const Windows& windows, const Layout& layout,
                                       const std::vector<float>& vectors) {
    std::vector<float> basis(vectors.size());
    for (std::size_t k = 0; k < layout.columns; ++k) {
      for (std::size_t c = 0; c < windows.cols; ++c) basis[c * layout.columns + k] = vectors[k * windows.cols + c];
    }
    return basis;
  }
  static std::vector<float> by_vector(const Windows& windows, const Layout& layout, const std::vector<float>& basis) {
    std::vector<float> vectors(basis.size());
    for (std::size_t c = 0; c < windows.cols; ++c) {
      for (std::size_t k = 0; k < layout.columns; ++k) vectors[k * windows.cols + c] = basis[c * layout.columns + k];
    }
    return vectors;
  }

  /// use(coefficients, vectors, first column) for each part of one row.
  template <typename F>
  static void for_each_part(const Windows& windows, const Layout& layout, const float* d,
                            const std::vector<float>& vectors, F&& use) {
    const float* next = vectors.data();
    for (std::size_t p = 0; p < windows.parts; ++p) {
      const std::size_t n = layout.components[p];
      use(d, kernels::Parts{next, 1, n, windows.cols}, p * windows.cols);
      d += n;
      next += n * windows.cols;
    }
  }

  double bits_ = 2;
  Per per_ = Per::tile;
};

}  // namespace

std::unique_ptr<Stage> make_klt() {
  return std::make_unique<Klt>();
}

}  // namespace kvzip
