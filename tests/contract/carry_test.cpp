// SPDX-License-Identifier: Apache-2.0
// The stage `carry` against numbers worked out by hand, and what a chain of frames is.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "codec/stages/stages.hpp"
#include "kvzip/error.hpp"
#include "kvzip/tile_codec.hpp"
#include "tests/contract/sample_tiles.hpp"

namespace kvzip::test {
namespace {

struct NoStreams final : StreamReader {
  void get(Stream&) override { FAIL("carry stores no streams"); }
};

/// carry alone, with the state of one side.
class OneSide {
 public:
  explicit OneSide(std::vector<std::string_view> fields, std::uint32_t cols = 2)
      : stage_(make_carry()), context_(sample_context(DType::f32, cols, 100)), cols_(cols) {
    parse_fields(*stage_, "carry", fields);
    state_ = stage_->begin_chain();
  }
  std::vector<float> encoded(const std::vector<float>& values) const {
    Tile tile = tile_of(values);
    std::vector<Stream> streams;
    StreamWriter writer(streams);
    EncodeContext to{writer};
    to.state = state_.get();
    stage_->encode(tile, to);
    CHECK(streams.empty());
    return {tile.values.begin(), tile.values.end()};
  }
  std::vector<float> decoded(const std::vector<float>& values) {
    Tile tile = tile_of(values);
    NoStreams streams;
    DecodeContext from{streams};
    from.state = state_.get();
    stage_->decode(tile, tile.shape, from);
    return {tile.values.begin(), tile.values.end()};
  }

 private:
  Tile tile_of(const std::vector<float>& values) const {
    Tile tile(context_, {static_cast<std::uint32_t>(values.size()) / cols_, cols_});
    tile.values.assign(values.begin(), values.end());
    return tile;
  }
  std::unique_ptr<Stage> stage_;
  TileContext context_;
  std::uint32_t cols_;
  std::unique_ptr<StageState> state_;
};

using Floats = std::vector<float>;

Pipeline resolved(std::string_view text, const TileContext& context, TileShape shape) {
  Pipeline p = Pipeline::parse(text);
  p.resolve(context, shape);
  return p;
}

}  // namespace

TEST_CASE("carry: the mean of the frame before, fading from token to token") {
  OneSide side({"weight=0.5", "decay=0.5"});
  const Floats first{1, 10, 3, 30};  // means 2 and 20
  CHECK(side.encoded(first) == first);
  CHECK(side.decoded(first) == first);
  const Floats second{4, 40, 8, 80, 6, 0};  // minus 1 and 10, 0.5 and 5, 0.25 and 2.5
  const Floats left{3, 30, 7.5, 75, 5.75, -2.5};
  CHECK(side.encoded(second) == left);
  CHECK(side.encoded(second) == left);  // encode only reads
  CHECK(side.decoded(left) == second);
  CHECK(side.encoded({3, 20}) == Floats{0, 0});  // means 6 and 40
  CHECK(side.decoded({0, 0}) == Floats{3, 20});
  CHECK(side.decoded({}).empty());  // a frame without rows leaves the state
  CHECK(side.encoded({0, 0}) == Floats{-1.5, -10});
}

TEST_CASE("carry: the last token of the frame before") {
  OneSide side({"of=last"});
  side.decoded({1, 10, 3, 30});
  CHECK(side.encoded({3, 31, 2, 29}) == Floats{0, 1, -1, -1});
  CHECK(side.decoded({0, 1, -1, -1}) == Floats{3, 31, 2, 29});
  CHECK(side.decoded({0, 0}) == Floats{2, 29});
}

TEST_CASE("carry: what is not finite counts as 0, and other columns as nothing") {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  for (const std::string_view of : {"of=mean", "of=last"}) {
    OneSide side({of}, 4);
    side.decoded({nan, inf, -inf, 3});
    CHECK(side.encoded({1, 1, 1, 1}) == Floats{1, 1, 1, -2});
  }
  OneSide side({}, 1);
  const float most = std::numeric_limits<float>::max();
  side.decoded({most, most, most, most});  // the sum is beyond float, the mean is not
  CHECK(side.encoded({most}) == Floats{0});
}

TEST_CASE("a chain goes on where decode left it, and begins again after a frame that is stored raw") {
  const std::uint32_t rows = 40, cols = 8;
  const TileContext context = sample_context(DType::f16, cols, 4 * rows);
  const Pipeline p = resolved("carry:of=last,uniform:step=0.01,rans", context, {rows, cols});
  const auto frame = [&](std::uint32_t f) { return sample_elements(DType::f16, rows, cols, Fill::ordinary, f); };
  const auto coded = [&](std::uint32_t f, const Chain& chain) {
    return p.encode(context, {rows, cols, f * rows}, frame(f), &chain);
  };
  Bytes out(frame(0).size());
  Chain chain = p.begin_chain();
  const Bytes first = coded(0, chain);
  CHECK(first == p.encode(context, {rows, cols}, frame(0)));  // without a chain: after a restart point
  p.decode(context, {rows, cols}, first, out, &chain);
  const Bytes second = coded(1, chain), fresh = p.encode(context, {rows, cols, rows}, frame(1));
  CHECK(second != fresh);
  CHECK(coded(1, chain) == second);
  p.decode(context, {rows, cols, rows}, Pipeline::raw(frame(1)), out, &chain);
  CHECK(out == frame(1));
  CHECK(coded(1, chain) == fresh);
}

TEST_CASE("a chained pipeline codes single tiles, each as if nothing stood before it") {
  const TileFormat format{.role = Role::key, .dtype = DType::f16, .heads = 2, .head_dim = 4, .rope = {}};
  const Bytes elements = sample_elements(DType::f16, 30, 8, Fill::ordinary);
  const TileCodec plain("uniform:step=0.01,rans", format), chained("carry,uniform:step=0.01,rans", format);
  const Bytes coded = chained.encode(elements);
  CHECK(coded == chained.encode(elements));
  Bytes a(elements.size()), b(elements.size());
  chained.decode(coded, a);
  chained.decode(coded, a);
  plain.decode(plain.encode(elements), b);
  CHECK(a == b);
}

TEST_CASE("chains of every pipeline that has them come back alike on both sides, whatever stands in their frames") {
  std::size_t tried = 0;
  for (const PipelineCase& c : kPipelineCases) {
    if (!Pipeline::parse(c.text).chained()) continue;
    CAPTURE(c.text);
    ++tried;
    for (const DType type : codable_dtypes()) {
      CAPTURE(dtype_name(type));
      const std::uint32_t rows = 13, cols = 12;
      const TileContext context = sample_context(type, cols, 1000);
      const Pipeline p = resolved(c.text, context, {rows, cols});
      Chain writing = p.begin_chain(), reading = p.begin_chain();
      std::uint64_t token = 0;
      for (const Fill fill : {Fill::ordinary, Fill::specials, Fill::ordinary, Fill::huge, Fill::tiny, Fill::constant,
                              Fill::ordinary, Fill::zeros, Fill::ordinary}) {
        const std::uint32_t n = token > 80 ? 1 : rows;
        const TileShape shape{n, cols, token};
        const Bytes elements = sample_elements(type, n, cols, fill, token);
        const Bytes payload = p.encode(context, shape, elements, &writing);
        Bytes back(elements.size()), again(elements.size());
        p.decode(context, shape, payload, back, &writing);
        p.decode(context, shape, payload, again, &reading);
        CHECK(back == again);
        const auto before = floats_of(type, elements), after = floats_of(type, back);
        std::size_t specials = 0;
        for (std::size_t i = 0; i < before.size(); ++i) specials += std::isfinite(before[i]) != std::isfinite(after[i]);
        CHECK(specials == 0);
        token += n;
      }
    }
  }
  CHECK(tried > 0);
}

}  // namespace kvzip::test
