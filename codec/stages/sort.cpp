// SPDX-License-Identifier: Apache-2.0
// Tokens of a block in the order of their medians, so that those behind find similar ones side by side: PackKV (arXiv
// 2512.24449), whose keys and values have one order that nobody stores, for attention does not ask for any. A cache
// does: here each tile's order is stored.
#include <algorithm>
#include <numeric>

#include "codec/fail.hpp"
#include "codec/stages/stages.hpp"
#include "codec/stages/sub_tile.hpp"

namespace kvzip {
namespace {

/// Where the lower median lies between the least and the largest of a row's values, from 0 to 1.
double place_of_median(std::vector<float> row) {
  if (row.empty()) return 0;
  const auto [low, high] = std::minmax_element(row.begin(), row.end());
  const double least = *low, range = double{*high} - least;
  if (!(range > 0)) return 0;
  const auto median = row.begin() + static_cast<std::ptrdiff_t>((row.size() - 1) / 2);
  std::nth_element(row.begin(), median, row.end());
  return (*median - least) / range;
}

class Sort final : public Cloned<Sort, Stage> {
 public:
  StageKind kind() const override { return StageKind::transform; }

  void fields(FieldVisitor& v) override {
    v.integer("block", block_, 2, 256, "tokens that are sorted among themselves");
  }

  TileShape output(const TileContext&, TileShape in) const override {
    in.pristine = in.contiguous = false;
    return in;
  }

  void encode(Tile& tile, EncodeContext& to) const override {
    const std::uint32_t rows = tile.shape.rows;
    std::vector<double> place(rows);
    for (std::size_t r = 0; r < rows; ++r) {
      place[r] = place_of_median(std::vector<float>(tile.row(r), tile.row(r) + tile.shape.cols));
    }
    std::vector<std::uint32_t> order(rows);
    std::iota(order.begin(), order.end(), 0u);
    for (std::size_t first = 0; first < rows; first += block_) {
      const auto begin = order.begin() + static_cast<std::ptrdiff_t>(first);
      const auto end = order.begin() + static_cast<std::ptrdiff_t>(std::min<std::size_t>(rows, first + block_));
      std::stable_sort(begin, end, [&](std::uint32_t a, std::uint32_t b) { return place[a] > place[b]; });
    }
    pass_order(to.out, order);
    const TileShape after = output(*tile.context, tile.shape);
    Tile sorted = take_rows(tile, *tile.context, order);
    const std::size_t heads = tile.saliency_cols();
    for (const std::uint32_t r : order) {
      const float* of = tile.saliency.data() + r * heads;
      sorted.saliency.insert(sorted.saliency.end(), of, of + heads);
    }
    tile = std::move(sorted);
    tile.shape = after;
  }

  void decode(Tile& tile, TileShape in, DecodeContext& from) const override {
    std::vector<std::uint32_t> order(in.rows);
    pass_order(from.in, order);
    const Tile sorted = std::move(tile);
    tile = Tile(*sorted.context, in);
    put_rows(sorted, order, tile);
  }

 private:
  /// The stream: for each place, which token of its block stands there.
  void pass_order(StreamPort& port, std::vector<std::uint32_t>& order) const {
    const auto rows = static_cast<std::uint32_t>(order.size());
    Stream s = symbol_stream(StreamLabel::positions, rows, 1, block_);
    if (port.writes()) {
      for (std::size_t i = 0; i < rows; ++i) s.data.push_back(static_cast<std::uint8_t>(order[i] % block_));
    }
    port.pass(s);
    if (port.writes()) return;
    std::vector<bool> seen(rows);
    for (std::size_t i = 0; i < rows; ++i) {
      const std::size_t r = i / block_ * block_ + s.data[i];
      if (r >= rows || seen[r]) fail(ErrorCode::corrupt, "sort: an order that is none");
      seen[r] = true;
      order[i] = static_cast<std::uint32_t>(r);
    }
  }

  std::uint64_t block_ = 64;
};

}  // namespace

std::unique_ptr<Stage> make_sort() {
  return std::make_unique<Sort>();
}

}  // namespace kvzip
