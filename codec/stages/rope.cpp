// SPDX-License-Identifier: Apache-2.0
// Removes rotary position embedding from keys (RoFormer, arXiv 2104.09864 section 3.2.2) and puts it back: without it a
// key channel keeps its mean along the tokens (KVQuant, arXiv 2401.18079 section 3.2).
#include <array>

#include "codec/fail.hpp"
#include "codec/rotary.hpp"
#include "codec/stages/stages.hpp"

namespace kvzip {
namespace {

constexpr std::array<std::string_view, 3> kLayouts{"auto", "half", "interleaved"};
constexpr std::array<std::string_view, 5> kScalings{"auto", "none", "linear", "llama3", "yarn"};
enum class Missing : std::uint8_t { refuse, skip };

class RopeStage final : public Cloned<RopeStage, Stage> {
 public:
  StageKind kind() const override { return StageKind::transform; }
  bool by_role() const override { return true; }

  void fields(FieldVisitor& v) override {
    v.real("theta", theta_, 0, 1e12, "base of the frequencies", "auto");
    v.choice_index("layout", layout_, kLayouts, "half: dimension i turns with i + dims/2; interleaved: 2i with 2i + 1");
    v.integer("dims", dims_, 0, 65536, "rotary dimensions at the start of each head", "auto");
    v.integer("first", first_, 0, 1u << 30, "position of the dump's token 0", "auto");
    v.choice_index("scaling", scaling_, kScalings, "frequency scaling of the model");
    v.real("factor", factor_, 0, 1e6, "scaling factor", "auto");
    v.real("low", low_, 0, 1e6, "llama3: low_freq_factor", "auto");
    v.real("high", high_, 0, 1e6, "llama3: high_freq_factor", "auto");
    v.real("context", context_, 0, 1e9, "llama3, yarn: original_max_position_embeddings", "auto");
    static constexpr std::array<std::string_view, 2> kMissing{"refuse", "skip"};
    v.choice("missing", missing_, kMissing,
             "keys whose rotation the dump does not give: refuse, or leave them as they are");
  }

  void resolve(const TileContext& c) override {
    const std::vector<HeadRun> keys = c.head_runs(true);
    if (keys.empty()) fail(ErrorCode::invalid_argument, "rope: it applies to keys, not to {}", role_name(c.role));
    if (skips(c, keys[0])) return;
    const bool stated = theta_ != 0;
    if (!stated && (c.rope.state == Rope::State::none || c.rope.state == Rope::State::pre)) {
      fail(ErrorCode::invalid_argument, "rope: the dump says that its keys are not rotated");
    }
    if (theta_ == 0) theta_ = c.rope.theta;
    if (theta_ == 0) {
      throw Error(ErrorCode::invalid_argument, "rope: the dump does not say rope_theta; rope:theta=500000 gives it",
                  Hint::metadata, "rope_theta=500000");
    }
    if (layout_ == 0) layout_ = c.rope.layout == Rope::Layout::interleaved ? 2 : 1;
    if (dims_ == 0) dims_ = c.rope.dims != 0 ? c.rope.dims : keys[0].head_dim;
    if (first_ == 0) first_ = c.rope.first_position;
    if (scaling_ == 0) scaling_ = static_cast<std::uint8_t>(1 + static_cast<unsigned>(c.rope.scaling));
    if (factor_ == 0) factor_ = c.rope.factor;
    if (low_ == 0) low_ = c.rope.low_freq_factor;
    if (high_ == 0) high_ = c.rope.high_freq_factor;
    if (context_ == 0) context_ = c.rope.original_context;
    if (keys[0].heads == 1 && c.rope.dims == 0 && dims_ > 512) {
      throw Error(ErrorCode::invalid_argument, "rope: the head width is unknown; rope:dims=N gives it", Hint::metadata,
                  "head_dim=N");
    }
  }

  TileShape output(const TileContext& c, TileShape in) const override {
    if (!in.contiguous) fail(ErrorCode::invalid_argument, "rope: it must stand before delta");
    if (skipped()) return in;
    constexpr std::uint64_t kMost = std::uint64_t{1} << 30;
    if (first_ > kMost || in.first_token > kMost) fail(ErrorCode::limit, "rope: positions beyond 2^30");
    for (const HeadRun& keys : c.head_runs(true)) {
      check_rotary(rope(), keys.head_dim, in.first_token + first_ + in.rows);
    }
    in.pristine = false;
    return in;
  }

  void encode(Tile& tile, EncodeContext&) const override {
    tile.shape = output(*tile.context, tile.shape);
    turn(tile, -1);
  }
  void decode(Tile& tile, TileShape in, DecodeContext&) const override {
    turn(tile, 1);
    tile.shape = in;
  }

 private:
  /// Keys that are not rotated, or of unknown rotation: with missing=skip the stage does nothing, so that a preset fits
  /// every dump. A stored theta of 0 then says so; all rotations have one.
  bool skips(const TileContext& c, const HeadRun& keys) const {
    if (missing_ != Missing::skip || theta_ != 0) return false;
    const bool plain = c.rope.state == Rope::State::none || c.rope.state == Rope::State::pre;
    const std::uint64_t dims = dims_ != 0 ? dims_ : c.rope.dims != 0 ? c.rope.dims : keys.head_dim;
    const bool no_heads = dims % 2 != 0 || (keys.heads == 1 && c.rope.dims == 0 && dims > 512);
    return plain || c.rope.theta == 0 || no_heads;
  }
  bool skipped() const { return missing_ == Missing::skip && theta_ == 0; }

  Rope rope() const {
    Rope r;
    r.theta = theta_;
    r.layout = layout_ == 2 ? Rope::Layout::interleaved : Rope::Layout::half;
    r.scaling = static_cast<Rope::Scaling>(scaling_ == 0 ? 0 : scaling_ - 1);
    r.factor = factor_;
    r.low_freq_factor = low_;
    r.high_freq_factor = high_;
    r.original_context = context_;
    r.dims = static_cast<std::uint32_t>(dims_);
    return r;
  }

  void turn(Tile& tile, int direction) const {
    if (skipped()) return;
    const Rotary rotary(rope());
    for (const HeadRun& keys : tile.context->head_runs(true)) {
      rotary.turn(tile.shape.first_token + first_, direction, tile.shape.rows, keys.heads, keys.head_dim,
                  tile.values.data() + keys.first, tile.shape.cols);
    }
  }

  double theta_ = 0, factor_ = 0, low_ = 0, high_ = 0, context_ = 0;
  std::uint8_t layout_ = 0, scaling_ = 0;
  std::uint64_t dims_ = 0, first_ = 0;
  Missing missing_ = Missing::refuse;
};

}  // namespace

std::unique_ptr<Stage> make_rope() {
  return std::make_unique<RopeStage>();
}

}  // namespace kvzip
