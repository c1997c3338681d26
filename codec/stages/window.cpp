// SPDX-License-Identifier: Apache-2.0
// Rows kept exact: attention-sink tokens and the recent window. The two residual rules of KIVI (arXiv 2402.02750
// section 3.3 and its released cache): for keys the last T mod R tokens, so that what is quantised fills whole groups;
// for values exactly the last R tokens. A buffer that is longer than what it holds ends with rows of zeros: those are
// no tokens, the window is before them, and they are not stored.
#include <algorithm>
#include <array>
#include <bit>
#include <span>

#include "codec/fail.hpp"
#include "codec/side.hpp"
#include "codec/stages/stages.hpp"

namespace kvzip {
namespace {

enum class Rule : std::uint8_t { last, modulo };

class Window final : public Cloned<Window, Stage> {
 public:
  StageKind kind() const override { return StageKind::rows; }

  void fields(FieldVisitor& v) override {
    static constexpr std::array<std::string_view, 2> kRules{"last", "modulo"};
    v.integer("sink", sink_, 0, 1u << 20, "first tokens of the sequence kept exact");
    v.integer("recent", recent_, 0, 1u << 30, "R, the length of the recent window in tokens");
    v.choice("rule", rule_, kRules, "last: the last R tokens; modulo: the last (tokens mod R), as KIVI's keys");
    v.since("1.1");
    v.integer("end", end_, 0, std::uint64_t{1} << 48, "tokens before the padding: rows from there on are zeros",
              "auto");
  }

  void resolve(const TileContext& context) override {
    if (end_ == 0 && context.used_tokens < context.total_tokens) end_ = context.used_tokens;
  }

  bool ends(const TileContext& context, TileShape in) const override {
    return end_ != 0 && output(context, in).rows == 0;
  }

  TileShape output(const TileContext& context, TileShape in) const override {
    const Kept kept = split(context, in);
    in.rows -= kept.front + kept.back;
    in.first_token += kept.front;
    return in;
  }

  void encode(Tile& tile, EncodeContext& to) const override {
    const Kept kept = split(*tile.context, tile.shape);
    const std::size_t cols = tile.shape.cols;
    const std::size_t front = kept.front * cols, rest = tile.values.size() - kept.back * cols;
    const std::size_t recent = (kept.back - kept.padding) * cols;
    check_padding(std::span(tile.values).subspan(rest + recent));
    std::vector<float> rows(front + recent);
    std::copy_n(tile.values.data(), front, rows.data());
    std::copy_n(tile.values.data() + rest, recent, rows.data() + front);
    pass_rows(to.out, *tile.context, kept, tile.shape.cols, rows);
    tile.values.resize(rest);
    if (front != 0) tile.values.erase(tile.values.begin(), tile.values.begin() + static_cast<std::ptrdiff_t>(front));
    const std::size_t heads = tile.saliency_cols();
    tile.saliency.resize(tile.saliency.size() - kept.back * heads);
    tile.saliency.erase(tile.saliency.begin(), tile.saliency.begin() + static_cast<std::ptrdiff_t>(kept.front * heads));
    tile.shape = output(*tile.context, tile.shape);
  }

  void decode(Tile& tile, TileShape in, DecodeContext& from) const override {
    const Kept kept = split(*tile.context, in);
    std::vector<float> rows;
    pass_rows(from.in, *tile.context, kept, in.cols, rows);
    const auto middle = rows.begin() + static_cast<std::ptrdiff_t>(std::size_t{kept.front} * in.cols);
    tile.values.insert(tile.values.end(), middle, rows.end());
    tile.values.insert(tile.values.begin(), rows.begin(), middle);
    tile.values.resize(std::size_t{in.rows} * in.cols, 0.0F);
    tile.shape = in;
  }

 private:
  /// Rows at either end of a tile; of those at its back the last ones are padding.
  struct Kept {
    std::uint32_t front, back, padding;
  };
  Kept split(const TileContext& context, TileShape in) const {
    if (!in.pristine) {
      fail(ErrorCode::invalid_argument, "window: it must stand before every transform, since its rows are exact");
    }
    const std::uint64_t used = end_ == 0 ? context.total_tokens : std::min(context.total_tokens, end_);
    const std::uint64_t kept = recent_ == 0 ? 0 : rule_ == Rule::modulo ? used % recent_ : std::min(used, recent_);
    const std::uint64_t begin = in.first_token, end = begin + in.rows;
    const std::uint64_t front = std::clamp(std::min(sink_, used), begin, end) - begin;
    const std::uint64_t back = end - std::clamp(used - kept, begin + front, end);
    const std::uint64_t padding = end - std::clamp(used, begin + front, end);
    return {static_cast<std::uint32_t>(front), static_cast<std::uint32_t>(back), static_cast<std::uint32_t>(padding)};
  }

  /// -0 is not padding: decode sets zeros.
  void check_padding(std::span<const float> rows) const {
    const auto zero = [](float x) { return std::bit_cast<std::uint32_t>(x) == 0; };
    if (std::all_of(rows.begin(), rows.end(), zero)) return;
    fail(ErrorCode::invalid_argument, "window: tokens from {} on are not all zeros; leave out its end={} for this dump",
         end_, end_);
  }

  static void pass_rows(StreamPort& port, const TileContext& context, Kept kept, std::uint32_t cols,
                        std::vector<float>& rows) {
    const std::uint32_t count = kept.front + kept.back - kept.padding;
    pass_source(port, {StreamLabel::exact, count, cols}, context.source, rows);
  }

  std::uint64_t sink_ = 0, recent_ = 128, end_ = 0;
  Rule rule_ = Rule::last;
};

}  // namespace

std::unique_ptr<Stage> make_window() {
  return std::make_unique<Window>();
}

}  // namespace kvzip
