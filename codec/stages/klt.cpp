// SPDX-License-Identifier: Apache-2.0
// The transform coder of KVTC (arXiv 2511.01815): channels are centred and projected on the eigenvectors of
// their covariance, D = (X - mu) V; a dynamic programme gives groups of components 0, 2, 4 or 8 bits. The paper fits
// mu, V and the allocation on calibration text over all layers and keeps them apart from the cache; here they are
// fitted on this very tile and stored with it, or on the whole tensor and stored once, or they come from a file of
// tables. Its 8-bit type is FP8; here 8 bits are uniform codes as 2 and 4 are.
#include <algorithm>
#include <array>
#include <cmath>
#include <optional>

#include "codec/fail.hpp"
#include "codec/kernels/products.hpp"
#include "codec/kernels/rows.hpp"
#include "codec/side.hpp"
#include "codec/stages/klt_basis.hpp"
#include "codec/stages/klt_bits.hpp"
#include "codec/stages/klt_model.hpp"
#include "codec/stages/stages.hpp"

namespace kvzip {
namespace {

enum class Per : std::uint8_t { tile, head };
using Windows = KltWindows;
using Layout = KltLayout;
using Model = KltModel;

/// What is stored of each row: a scale and a shift for each group, and codes by type.
struct Codes {
  std::vector<float> scales, shifts;
  std::array<Stream, kKltBits.size()> streams;
};

class Klt final : public Cloned<Klt, Stage> {
 public:
  StageKind kind() const override { return StageKind::additive; }

  void fields(FieldVisitor& v) override {
    static constexpr std::array<std::string_view, 2> kPer{"tile", "head"};
    v.real("bits", bits_, 0.01, 40, "bits per value for codes, scales and shifts; the basis comes on top");
    v.choice("per", per_, kPer, "one basis for the tile or one per head");
    v.since("1.1");
    v.text("basis", basis_, "tile|tensor|NAME|HASH",
           "stored with each tile, once for the tensor, or a table by its name or hash");
  }

  std::string_view lacks_table() const override {
    return table_ != nullptr || basis_ == kInTile ? std::string_view() : basis_;
  }
  void use_table(std::shared_ptr<const Table> table, std::string_view reference) override {
    if (table != nullptr && table->type != TableType::klt) {
      fail(ErrorCode::invalid_argument, "klt: the table {} is not one of klt's", table->name);
    }
    basis_ = table == nullptr ? kInTile : reference;
    table_ = std::move(table);
  }
  TileShape output(const TileContext& context, TileShape in) const override {
    if (table_ != nullptr) check_klt_table(table_->bytes, basis_, in.cols, make_windows(context, in).parts);
    return in;
  }
  double work(const TileContext& context, TileShape in) const override {
    const Windows windows = make_windows(context, in);
    return (in.rows + 1.0) * in.cols * (in_table() ? windows.cols : windows.most);
  }
  Table fit_table(const Tile& rows) const override {
    const Windows windows = make_windows(*rows.context, rows.shape);
    std::vector<Stream> streams;
    StreamWriter writer(streams);
    Model model;
    put_model(writer, rows, windows, model);
    return {{}, TableType::klt, klt_table(rows.shape.cols, windows.parts, streams), 0};
  }

  void resolve(const TileContext& context) override {
    if (per_ == Per::head && context.heads == 0) {
      fail(ErrorCode::invalid_argument, "klt: per=head needs heads of one width; per=tile takes any");
    }
  }

  void encode(Tile& tile, EncodeContext& to) const override {
    const Windows windows = make_windows(*tile.context, tile.shape);
    const std::uint32_t rows = tile.shape.rows;
    Model model;
    std::vector<float> coefficients;
    if (in_table()) {
      model = table_model(tile.shape.cols, windows);
      coefficients = project(tile, windows, model);
    } else {
      coefficients = put_model(to.out, tile, windows, model);
    }
    Codes codes = make_codes(model.layout, rows);
    measure_ranges(coefficients, model.layout, rows, codes);
    pass_ranges(to.out, *tile.context, model.layout, rows, codes);
    quantise(model.layout, rows, coefficients, codes);
    for (Stream& s : codes.streams) to.out.pass(s);
    if (!to.wanted) return;
    const std::vector<float> vectors = klt_by_vector(windows, model.layout, model.basis);
    for (std::size_t t = 0; t < rows; ++t) {
      tile.subtract_row(t, model.mean);
      const std::uint8_t* taken = tile.taken.empty() ? nullptr : tile.taken.data() + t * tile.shape.cols;
      for_each_part(windows, model.layout, coefficients.data() + t * model.layout.columns, vectors,
                    [&](const float* d, const kernels::Parts& part, std::size_t column) {
                      kernels::subtract_products(d, part, taken == nullptr ? nullptr : taken + column,
                                                 tile.row(t) + column);
                    });
    }
  }

  void decode(Tile& tile, TileShape in, DecodeContext& from) const override {
    const Windows windows = make_windows(*tile.context, in);
    Model model;
    if (in_table()) {
      model = table_model(in.cols, windows);
    } else {
      pass_klt_means(from.in, in, model);
      pass_klt_basis(from.in, windows, model);
    }
    const Layout& layout = model.layout;
    Codes codes = make_codes(layout, in.rows);
    pass_ranges(from.in, *tile.context, layout, in.rows, codes);
    for (Stream& s : codes.streams) from.in.get(s);
    const std::size_t groups = layout.groups.size();
    const std::vector<float> vectors = klt_by_vector(windows, layout, model.basis);
    std::vector<float> d(layout.columns);
    for (std::size_t t = 0; t < in.rows; ++t) {
      for (std::size_t g = 0; g < groups; ++g) {
        const KltCodedGroup& group = layout.groups[g];
        const float scale = codes.scales[t * groups + g], shift = codes.shifts[t * groups + g];
        const std::uint8_t* q = codes.streams[group.type].data.data() + t * layout.widths[group.type] + group.code;
        for (std::size_t i = 0; i < group.size; ++i) d[group.column + i] = static_cast<float>(q[i]) * scale + shift;
      }
      float* row = tile.row(t);
      for (std::size_t c = 0; c < in.cols; ++c) row[c] += model.mean[c];
      for_each_part(windows, layout, d.data(), vectors, [&](const float* q, const kernels::Parts& part, std::size_t c) {
        kernels::add_products(q, part, row + c);
      });
    }
  }

 private:
  static constexpr std::string_view kInTile = "tile";

  /// True when tiles do not store the model. Without a reader of tables, `tensor` is as `tile`.
  bool in_table() const { return table_ != nullptr || (basis_ != kInTile && basis_ != kFittedTable); }
  /// Read for each tile, as the streams of a tile are: many pipelines may name one table.
  Model table_model(std::uint32_t cols, const Windows& windows) const {
    if (table_ == nullptr) fail_without_table("klt", basis_);
    try {
      return model_of_klt_table(table_->bytes, cols, windows.parts);
    } catch (Error& e) {
      e.add_where(fmt::format("klt: the table {}", basis_));
      throw;
    }
  }

  // The streams, in their order: a model's, then scales and shifts, then codes.
  static void pass_ranges(StreamPort& port, const TileContext& context, const Layout& layout, std::uint32_t rows,
                          Codes& codes) {
    const NumberShape shape{StreamLabel::scales, rows, static_cast<std::uint32_t>(layout.groups.size())};
    pass_numbers(port, shape, NumberFormat::f16, context.source, codes.scales);
    pass_numbers(port, shape, NumberFormat::f16, context.source, codes.shifts);
  }
  static Codes make_codes(const Layout& layout, std::uint32_t rows) {
    Codes codes;
    for (std::size_t type = 0; type < kKltBits.size(); ++type) {
      codes.streams[type] =
          symbol_stream(StreamLabel::codes, rows, layout.widths[type], std::uint64_t{1} << kKltBits[type]);
    }
    return codes;
  }

  /// Fits a model to the tile and stores it; returns the coefficients: rows x layout.columns.
  std::vector<float> put_model(StreamWriter& out, const Tile& tile, const Windows& windows, Model& m) const {
    m.mean = column_means(tile);
    pass_klt_means(out, tile.shape, m);
    std::vector<float> vectors;  // one for each of the layout's columns, as long as its part is wide
    std::vector<std::vector<float>> coded(windows.parts);
    for (std::uint32_t p = 0; p < windows.parts; ++p) {
      m.layout.add_part();
      if (windows.most != 0) coded[p] = fit_part(tile, windows, p, m, vectors);
    }
    m.basis = klt_by_channel(windows, m.layout, vectors);
    pass_klt_basis(out, windows, m);
    return joined(coded, tile.shape.rows, m.layout);
  }

  /// The coefficients of a tile for a model that is there.
  static std::vector<float> project(const Tile& tile, const Windows& windows, const Model& m) {
    const std::vector<float> vectors = klt_by_vector(windows, m.layout, m.basis);
    std::vector<std::vector<float>> coded(windows.parts);
    auto next = vectors.begin();
    for (std::uint32_t p = 0; p < windows.parts; ++p) {
      const std::size_t n = m.layout.components[p];
      const std::vector<float> own(next, next + static_cast<std::ptrdiff_t>(n * windows.cols));
      next += static_cast<std::ptrdiff_t>(own.size());
      const auto part = part_of(tile, windows, p, m.mean);
      coded[p].resize(tile.shape.rows * n);
      if (!part || n == 0) continue;
      coded[p] = klt_coefficients(*part, own, n);
      for (float& x : coded[p]) x = finite(double{x} / part->factor);
    }
    return joined(coded, tile.shape.rows, m.layout);
  }

  /// The parts' coefficients side by side.
  static std::vector<float> joined(const std::vector<std::vector<float>>& coded, std::size_t rows,
                                   const Layout& layout) {
    std::vector<float> all;
    all.reserve(rows * layout.columns);
    for (std::size_t t = 0; t < rows; ++t) {
      for (std::size_t p = 0; p < coded.size(); ++p) {
        const std::size_t n = layout.components[p];
        const auto row = coded[p].begin() + static_cast<std::ptrdiff_t>(t * n);
        all.insert(all.end(), row, row + static_cast<std::ptrdiff_t>(n));
      }
    }
    return all;
  }

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

  /// A part of the tile with a factor that keeps squares finite; none where it has only its mean.
  static std::optional<KltPart> part_of(const Tile& tile, const Windows& windows, std::uint32_t p,
                                        const std::vector<float>& mean) {
    const std::size_t first = std::size_t{p} * windows.cols, rows = tile.shape.rows;
    KltPart part{tile.values.data() + first, rows, windows.cols, tile.shape.cols, mean.data() + first, 1};
    float largest = 0;
    for (std::size_t t = 0; t < rows; ++t) {
      for (std::size_t c = 0; c < windows.cols; ++c) {
        largest = std::max(largest, std::fabs(part.x[t * part.stride + c] / 2 - part.mean[c] / 2));
      }
    }
    if (largest == 0) return std::nullopt;
    const int exponent = std::min(std::ilogb(largest) + 1, 126);  // what is analysed lies between -2 and 2
    part.factor = std::ldexp(1.0f, std::min(-exponent, 127));
    return part;
  }

  /// Appends a part's groups and vectors; returns the coefficients of its coded components.
  std::vector<float> fit_part(const Tile& tile, const Windows& windows, std::uint32_t p, Model& m,
                              std::vector<float>& vectors) const {
    const std::size_t rows = tile.shape.rows;
    const auto part = part_of(tile, windows, p, m.mean);
    if (!part) return {};
    const std::vector<float> basis = klt_basis(*part, windows.most);
    const std::vector<float> all = klt_coefficients(*part, basis, windows.most);
    const auto budget = static_cast<std::uint64_t>(bits_ * windows.cols);
    const auto groups = allocate_klt_bits(measure_klt_errors(all.data(), rows, windows.most), budget);
    std::vector<std::uint32_t> kept;
    for (const KltGroup& g : groups) {
      const auto type = std::find(kKltBits.begin(), kKltBits.end(), g.bits) - kKltBits.begin();
      m.layout.add(g.size, static_cast<std::uint32_t>(type));
      for (std::uint32_t i = 0; i < g.size; ++i) kept.push_back(g.first + i);
    }
    for (const std::size_t k : kept) {
      const auto vector = basis.begin() + static_cast<std::ptrdiff_t>(k * windows.cols);
      vectors.insert(vectors.end(), vector, vector + windows.cols);
    }
    std::vector<float> coded;
    coded.reserve(rows * kept.size());
    for (std::size_t t = 0; t < rows; ++t) {
      for (const std::size_t k : kept) coded.push_back(finite(double{all[t * windows.most + k]} / part->factor));
    }
    return coded;
  }

  static float finite(double x) {
    constexpr double kLargest = 0x1.fffffep127;
    return static_cast<float>(std::clamp(x, -kLargest, kLargest));
  }

  static void measure_ranges(const std::vector<float>& coefficients, const Layout& layout, std::uint32_t rows,
                             Codes& codes) {
    for (std::size_t t = 0; t < rows; ++t) {
      for (const KltCodedGroup& g : layout.groups) {
        const float* x = coefficients.data() + t * layout.columns + g.column;
        float low = x[0], high = x[0];
        kernels::min_max(x, g.size, &low, &high);
        const KltRange range = klt_range(low, high, kKltBits[g.type]);
        codes.scales.push_back(range.scale);
        codes.shifts.push_back(finite(double{range.shift}));
      }
    }
  }

  /// Sets the codes, and the coefficients to what a reader will have.
  static void quantise(const Layout& layout, std::uint32_t rows, std::vector<float>& coefficients, Codes& codes) {
    const std::size_t groups = layout.groups.size();
    for (Stream& s : codes.streams) s.allocate();
    for (std::size_t t = 0; t < rows; ++t) {
      for (std::size_t g = 0; g < groups; ++g) {
        const KltCodedGroup& group = layout.groups[g];
        const KltRange range{codes.scales[t * groups + g], codes.shifts[t * groups + g]};
        float* x = coefficients.data() + t * layout.columns + group.column;
        std::uint8_t* q = codes.streams[group.type].data.data() + t * layout.widths[group.type] + group.code;
        for (std::size_t i = 0; i < group.size; ++i) {
          const float code = klt_code(x[i], range, kKltBits[group.type]);
          q[i] = static_cast<std::uint8_t>(code);
          x[i] = code * range.scale + range.shift;
        }
      }
    }
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
  std::string basis_{kInTile};
  std::shared_ptr<const Table> table_;
};

}  // namespace

std::unique_ptr<Stage> make_klt() {
  return std::make_unique<Klt>();
}

}  // namespace kvzip
