// SPDX-License-Identifier: Apache-2.0
// Differences between tokens.
//   anchor    CacheGen's change-based encoding (arXiv 2310.07240 section 5.2): of every `every` tokens the first is an
//   anchor, coded by
//             itself with `bits` bits (absolute maximum per token); the others become differences to the decoded
//             anchor.
//   previous  differences to the token before, restarted every `every` tokens. Errors of later stages add up along a
//   run.
// Differences do not always pay (values, deep layers), so unless keep=always the pipeline codes the tile both ways and
// keeps the smaller.
#include <algorithm>
#include <array>
#include <cmath>

#include "codec/side.hpp"
#include "codec/stages/stages.hpp"

namespace kvzip {
namespace {

enum class Ref : std::uint8_t { anchor, previous };
enum class Keep : std::uint8_t { smaller, always };

class Delta final : public Cloned<Delta, Stage> {
 public:
  StageKind kind() const override { return StageKind::transform; }
  bool trial() const override { return keep_ == Keep::smaller; }

  void fields(FieldVisitor& v) override {
    static constexpr std::array<std::string_view, 2> kRefs{"anchor", "previous"};
    static constexpr std::array<std::string_view, 2> kKeeps{"smaller", "always"};
    v.choice("ref", ref_, kRefs, "what a token's difference is taken to");
    v.integer("every", every_, 2, 65536, "tokens per anchor, or per restart");
    v.integer("bits", bits_, 2, 8, "bits of an anchor's values");
    v.choice("keep", keep_, kKeeps, "smaller: only where the measured size falls");
  }

  TileShape output(const TileContext&, TileShape in) const override {
    if (ref_ == Ref::anchor) in.rows -= anchors(in);
    in.pristine = in.contiguous = false;
    return in;
  }

  void encode(Tile& tile, EncodeContext& to) const override {
    const TileShape in = tile.shape;
    if (ref_ == Ref::previous) {
      for (std::size_t r = in.rows; r-- > 1;) {
        if (r % every_ == 0) continue;
        for (std::size_t c = 0; c < in.cols; ++c) tile.row(r)[c] -= tile.row(r - 1)[c];
      }
    } else {
      const std::vector<float> anchor = put_anchors(tile, to.out);
      Buffer<float> rest;
      rest.reserve(tile.values.size());
      for (std::size_t r = 0; r < in.rows; ++r) {
        if (r % every_ == 0) continue;
        const float* a = anchor.data() + r / every_ * in.cols;
        for (std::size_t c = 0; c < in.cols; ++c) rest.push_back(tile.row(r)[c] - a[c]);
      }
      tile.values = std::move(rest);
      drop_anchor_rows(tile.taken, in.rows, in.cols);
      drop_anchor_rows(tile.saliency, in.rows, tile.saliency_cols());
    }
    tile.shape = output(*tile.context, in);
  }

  void decode(Tile& tile, TileShape in, DecodeContext& from) const override {
    if (ref_ == Ref::previous) {
      tile.shape = in;
      for (std::size_t r = 1; r < in.rows; ++r) {
        if (r % every_ == 0) continue;
        for (std::size_t c = 0; c < in.cols; ++c) tile.row(r)[c] += tile.row(r - 1)[c];
      }
      return;
    }
    const std::vector<float> anchor = get_anchors(tile, in, from.in);
    Buffer<float> all(std::size_t{in.rows} * in.cols);
    const float* difference = tile.values.data();
    for (std::size_t r = 0; r < in.rows; ++r) {
      const float* a = anchor.data() + r / every_ * in.cols;
      for (std::size_t c = 0; c < in.cols; ++c) {
        all[r * in.cols + c] = r % every_ == 0 ? a[c] : a[c] + *difference++;
      }
    }
    tile.values = std::move(all);
    tile.shape = in;
  }

 private:
  std::uint32_t anchors(TileShape in) const { return static_cast<std::uint32_t>((in.rows + every_ - 1) / every_); }
  float middle() const { return static_cast<float>((1u << (bits_ - 1)) - 1); }

  /// The streams of anchors: a scale for each, then the codes, which are returned.
  Stream pass_scale(StreamPort& port, const TileContext& context, TileShape in, std::vector<float>& absmax) const {
    pass_numbers(port, {StreamLabel::scales, anchors(in), 1}, NumberFormat::source, context.source, absmax);
    return symbol_stream(StreamLabel::codes, anchors(in), in.cols, (1u << bits_) - 1, context.head_dim);
  }

  /// Stores the anchors; returns them as a reader will see them.
  std::vector<float> put_anchors(const Tile& tile, StreamWriter& out) const {
    const std::uint32_t count = anchors(tile.shape), cols = tile.shape.cols;
    std::vector<float> absmax(count);
    for (std::size_t a = 0; a < count; ++a) {
      for (std::size_t c = 0; c < cols; ++c) absmax[a] = std::max(absmax[a], std::fabs(tile.row(a * every_)[c]));
    }
    Stream codes = pass_scale(out, *tile.context, tile.shape, absmax);
    std::vector<float> decoded(codes.count());
    codes.allocate();
    const float m = middle();
    for (std::size_t i = 0; i < decoded.size(); ++i) {
      const float factor = absmax[i / cols] == 0 ? 0 : m / absmax[i / cols];
      const float x = tile.row(i / cols * every_)[i % cols] * (std::isfinite(factor) ? factor : 0);
      const float q = std::clamp(std::nearbyint(x + m), 0.0f, 2 * m);
      codes.data[i] = static_cast<std::uint8_t>(q);
      decoded[i] = (q - m) / m * absmax[i / cols];
    }
    out.pass(codes);
    return decoded;
  }

  std::vector<float> get_anchors(const Tile& tile, TileShape in, StreamReader& streams) const {
    std::vector<float> absmax;
    Stream codes = pass_scale(streams, *tile.context, in, absmax);
    streams.get(codes);
    std::vector<float> decoded(codes.count());
    const float m = middle();
    for (std::size_t i = 0; i < decoded.size(); ++i) {
      decoded[i] = (static_cast<float>(codes.data[i]) - m) / m * absmax[i / in.cols];
    }
    return decoded;
  }

  template <typename Numbers>
  void drop_anchor_rows(Numbers& numbers, std::size_t rows, std::size_t cols) const {
    if (numbers.empty()) return;
    Numbers rest;
    for (std::size_t r = 0; r < rows; ++r) {
      if (r % every_ == 0) continue;
      const auto row = numbers.begin() + static_cast<std::ptrdiff_t>(r * cols);
      rest.insert(rest.end(), row, row + static_cast<std::ptrdiff_t>(cols));
    }
    numbers = std::move(rest);
  }

  Ref ref_ = Ref::anchor;
  std::uint64_t every_ = 10, bits_ = 8;
  Keep keep_ = Keep::smaller;
};

}  // namespace

std::unique_ptr<Stage> make_delta() {
  return std::make_unique<Delta>();
}

}  // namespace kvzip
