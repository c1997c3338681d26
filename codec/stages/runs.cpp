// SPDX-License-Identifier: Apache-2.0
// Runs of tokens with similar keys, each as one row: KVMerger (arXiv 2407.08454 section 3). A run's row is the mean of
// its tokens, weighted by a Gaussian of their distance from the one that matters most. Values follow the runs and the
// weights of the keys beside them. Every token of a run decodes to the run's row.
#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <string>

#include "codec/fail.hpp"
#include "codec/portable_math.hpp"
#include "codec/side.hpp"
#include "codec/stages/stages.hpp"
#include "codec/stages/sub_tile.hpp"

namespace kvzip {
namespace {

/// Columns that say which tokens are alike: those of keys, or all where there are none.
std::vector<std::uint32_t> telling_columns(const TileContext& context, std::uint32_t cols) {
  std::vector<std::uint32_t> out;
  for (const TileMember& m : context.members) {
    if (m.role != Role::key) continue;
    for (std::uint32_t c = m.first; c < m.end(); ++c) out.push_back(c);
  }
  if (out.empty()) {
    out.resize(cols);
    std::iota(out.begin(), out.end(), 0u);
  }
  return out;
}

double product(const Tile& keys, std::size_t a, std::size_t b) {
  const float *x = keys.row(a), *y = keys.row(b);
  double sum = 0;
  for (std::size_t c = 0; c < keys.shape.cols; ++c) sum += double{x[c]} * y[c];
  return sum;
}
double distance(const Tile& keys, std::size_t a, std::size_t b) {
  const float *x = keys.row(a), *y = keys.row(b);
  double sum = 0;
  for (std::size_t c = 0; c < keys.shape.cols; ++c) {
    const double d = double{x[c]} - y[c];
    sum += d * d;
  }
  return std::sqrt(sum);
}

/// A run: rows from first to end.
struct Run {
  std::size_t first, end;
};
std::vector<Run> runs_of(const std::vector<std::uint8_t>& begins) {
  std::vector<Run> runs;
  for (std::size_t r = 0; r < begins.size(); ++r) {
    if (r == 0 || begins[r] != 0) runs.push_back({r, r});
    runs.back().end = r + 1;
  }
  return runs;
}

class Runs final : public Cloned<Runs, Stage> {
 public:
  StageKind kind() const override { return StageKind::additive; }
  bool weighs() const override { return true; }

  void fields(FieldVisitor& v) override {
    v.real("cosine", cosine_, 0, 1, "least cosine between the keys of neighbours in a run");
    v.real("share", share_, 0, 1, "least number of runs, as a share of the tokens");
    rows_.fields(v, {"bits of a run's channels; exact: in the dump's type", "exact",
                     "what shares a scale: a channel's runs, a run's channels, those of one head",
                     "runs (channel) or channels (token, token-head) per scale", "format of scales and minima"});
  }

  void check() override { rows_.check(); }

  TileShape output(const TileContext& context, TileShape in) const override {
    if (in.cols != context.channels()) fail(ErrorCode::invalid_argument, "runs: a tile without whole heads");
    return in;
  }

  void encode(Tile& tile, EncodeContext& to) const override {
    const Tile keys = take_columns(tile, *tile.context, telling_columns(*tile.context, tile.shape.cols));
    std::vector<std::uint8_t> begins = choose(keys);
    const std::vector<Run> runs = runs_of(begins);
    pass_begins(to.out, begins);
    Tile merged(*tile.context, merged_shape(tile.shape, runs.size()));
    const std::vector<float> saliency = tile.row_saliency();
    for (std::size_t i = 0; i < runs.size(); ++i) merge(tile, keys, saliency, runs[i], merged.row(i));
    rows_.encode(merged, to, pass_exact);
    if (!to.wanted) return;
    std::vector<float> row(tile.shape.cols);
    for (std::size_t i = 0; i < runs.size(); ++i) {
      std::copy_n(merged.row(i), row.size(), row.begin());
      for (std::size_t r = runs[i].first; r < runs[i].end; ++r) tile.subtract_row(r, row);
    }
  }

  void decode(Tile& tile, TileShape in, DecodeContext& from) const override {
    std::vector<std::uint8_t> begins(in.rows);
    pass_begins(from.in, begins);
    const std::vector<Run> runs = runs_of(begins);
    Tile merged(*tile.context, merged_shape(in, runs.size()));
    rows_.decode(merged, from.in, pass_exact);
    for (std::size_t i = 0; i < runs.size(); ++i) {
      for (std::size_t r = runs[i].first; r < runs[i].end; ++r) {
        for (std::size_t c = 0; c < in.cols; ++c) tile.row(r)[c] += merged.row(i)[c];
      }
    }
  }

 private:
  /// 1 for each row that begins a run. Neighbours are joined from the most alike on, of equals the first, until only
  /// the share is left or none is alike enough.
  std::vector<std::uint8_t> choose(const Tile& keys) const {
    const std::size_t rows = keys.shape.rows;
    std::vector<double> alike(rows);
    std::vector<std::size_t> order;
    double before = 0;
    for (std::size_t r = 0; r < rows; ++r) {
      const double square = product(keys, r, r);
      const double lengths = std::sqrt(square) * std::sqrt(before);
      if (r > 0) alike[r] = lengths > 0 ? product(keys, r - 1, r) / lengths : square == before ? 1 : 0;
      if (r > 0 && alike[r] >= cosine_) order.push_back(r);
      before = square;
    }
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return alike[a] > alike[b]; });
    const auto least = static_cast<std::size_t>(std::ceil(share_ * static_cast<double>(rows)));
    order.resize(std::min(order.size(), rows - std::min(rows, least)));
    std::vector<std::uint8_t> begins(rows, 1);
    for (const std::size_t r : order) begins[r] = 0;
    return begins;
  }

  /// exp(-d^2 / 2 s^2) for the distance d from the most salient token, of equals the first; s is the mean distance of
  /// the others.
  static std::vector<double> weights(const Tile& keys, const std::vector<float>& saliency, Run run) {
    std::size_t pivot = run.first;
    if (saliency.size() == keys.shape.rows) {
      for (std::size_t r = run.first; r < run.end; ++r) {
        if (saliency[r] > saliency[pivot]) pivot = r;
      }
    }
    std::vector<double> w(run.end - run.first);
    for (std::size_t i = 0; i < w.size(); ++i) w[i] = distance(keys, pivot, run.first + i);
    const double sum = std::accumulate(w.begin(), w.end(), 0.0);
    const double mean = w.size() > 1 ? sum / static_cast<double>(w.size() - 1) : 0;
    for (double& x : w) x = mean > 0 ? portable::exp(-std::min(x * x / mean / mean / 2, 600.0)) : 1;
    return w;
  }

  static void merge(const Tile& tile, const Tile& keys, const std::vector<float>& saliency, Run run, float* out) {
    if (run.end - run.first == 1) return static_cast<void>(std::copy_n(tile.row(run.first), tile.shape.cols, out));
    const std::vector<double> w = weights(keys, saliency, run);
    const double all = std::accumulate(w.begin(), w.end(), 0.0);
    for (std::size_t c = 0; c < tile.shape.cols; ++c) {
      double sum = 0;
      for (std::size_t i = 0; i < w.size(); ++i) sum += w[i] * tile.row(run.first + i)[c];
      out[c] = static_cast<float>(sum / all);
    }
  }

  static void pass_exact(StreamPort& port, Tile& merged) {
    std::vector<float> values(merged.values.begin(), merged.values.end());
    const DType source = merged.context->source;
    pass_source(port, {StreamLabel::exact, merged.shape.rows, merged.shape.cols}, source, values);
    if (port.writes()) {  // means are none of the dump's values
      Bytes stored(values.size() * dtype_unit(source));
      from_float(source, values, stored);
      to_float(source, stored, values);
    }
    std::copy(values.begin(), values.end(), merged.values.begin());
  }

  static void pass_begins(StreamPort& port, std::vector<std::uint8_t>& begins) {
    Stream flags = symbol_stream(StreamLabel::positions, static_cast<std::uint32_t>(begins.size()), 1, 2);
    if (port.writes()) flags.data.insert(flags.data.end(), begins.begin(), begins.end());
    port.pass(flags);
    if (!port.writes()) begins.assign(flags.data.begin(), flags.data.end());
  }
  static TileShape merged_shape(TileShape in, std::size_t runs) {
    return {static_cast<std::uint32_t>(runs), in.cols, in.first_token, in.pristine, false};
  }

  double cosine_ = 0, share_ = 0.5;
  StoredRows rows_;
};

}  // namespace

std::unique_ptr<Stage> make_runs() {
  return std::make_unique<Runs>();
}

}  // namespace kvzip
