// SPDX-License-Identifier: Apache-2.0
// Every stage, through representative pipelines, on every dtype and kind of data.
#include <fmt/format.h>

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "kvzip/error.hpp"
#include "tests/contract/sample_tiles.hpp"

namespace kvzip::test {
namespace {

struct Shape {
  std::uint32_t rows, cols;
};
// One token; fewer than any group; no multiple of a group; more than one anchor, restart and window; enough for lanes.
constexpr Shape kShapes[] = {{1, 8}, {3, 4}, {13, 12}, {67, 20}, {70, 36}};
// Every width from one channel on, for what divides channels.
constexpr Shape kNarrow[] = {{1, 1}, {40, 1}, {20, 2}, {19, 3}, {18, 5}, {17, 7}, {35, 11}, {33, 17}};

Pipeline resolved(std::string_view text, const TileContext& context, TileShape shape) {
  Pipeline p = Pipeline::parse(text);
  p.resolve(context, shape);
  return p;
}

Bytes decoded(const Pipeline& p, const TileContext& c, TileShape shape, ByteView payload, std::size_t bytes) {
  Bytes out(bytes, std::byte{0xa5});
  p.decode(c, shape, payload, out);
  return out;
}

double largest(const std::vector<float>& values) {
  double most = 0;
  for (const float v : values) {
    if (std::isfinite(v)) most = std::max(most, std::fabs(double{v}));
  }
  return most;
}

/// Compares values that have a bound; what is not finite must come back bit for bit.
void check_values(DType type, ByteView original, ByteView back, double bound) {
  const std::size_t unit = dtype_unit(type);
  const auto before = floats_of(type, original), after = floats_of(type, back);
  const double most = largest(before), allowed = (bound + dtype_step(type)) * most;
  double worst = 0;
  bool same_specials = true, finite = true;
  for (std::size_t i = 0; i < before.size(); ++i) {
    if (!std::isfinite(before[i])) {
      same_specials &= std::equal(original.begin() + static_cast<std::ptrdiff_t>(i * unit),
                                  original.begin() + static_cast<std::ptrdiff_t>((i + 1) * unit),
                                  back.begin() + static_cast<std::ptrdiff_t>(i * unit));
      continue;
    }
    finite &= std::isfinite(after[i]);
    worst = std::max(worst, std::fabs(double{after[i]} - before[i]));
  }
  CHECK(same_specials);
  CHECK(finite);
  CHECK(worst <= allowed);
}

/// Runs `use` for every pipeline, dtype, shape and kind of data that go together.
template <typename F>
void for_each_case(F&& use) {
  for (const PipelineCase& c : kPipelineCases) {
    CAPTURE(c.text);
    const bool exact = Pipeline::parse(c.text).exact();
    for (const DType type : exact ? all_dtypes() : codable_dtypes()) {
      CAPTURE(dtype_name(type));
      for (const Shape& size : kShapes) {
        CAPTURE(size.rows);
        const std::uint32_t rows = size.rows, cols = size.cols;
        const TileContext context = sample_context(type, cols, rows);
        const TileShape shape{rows, cols, 0, true, true};
        use(c, resolved(c.text, context, shape), context, shape);
      }
    }
  }
}

}  // namespace

TEST_CASE("every registered stage and coder stands in the table of pipelines") {
  std::set<unsigned> stages, coders;
  for (const PipelineCase& c : kPipelineCases) {
    const auto ids = Pipeline::parse(c.text).ids();
    stages.insert(ids.stages.begin(), ids.stages.end());
    coders.insert(ids.coder);
  }
  for (const auto& row : stage_table()) {
    CAPTURE(row.name);
    CHECK(stages.count(row.id) == 1);
  }
  for (const auto& row : coder_table()) {
    CAPTURE(row.name);
    CHECK(coders.count(row.id) == 1);
  }
}

TEST_CASE("wire ids are unique and stand for the same names as ever") {
  std::set<unsigned> seen;
  std::string ledger;
  for (const auto& row : stage_table()) {
    CHECK(seen.insert(row.id).second);
    ledger += fmt::format("{} {}\n", row.id, row.name);
  }
  CHECK(ledger.starts_with("1 window\n2 outliers\n3 quant\n4 lowrank\n5 norm\n6 delta\n7 rope\n8 cast\n9 planes\n"));
  CHECK(ledger.find("\n10 rotate\n11 codebook\n") != std::string::npos);
  CHECK(ledger.find("\n13 uniform\n14 carry\n15 adapt\n16 bfp\n17 nuq\n18 tiers\n19 bands\n20 polar\n") !=
        std::string::npos);
  CHECK(ledger.find("\n20 polar\n21 slerp\n22 runs\n23 clusters\n24 couple\n25 sort\n26 nested\n27 predict\n") !=
        std::string::npos);
  seen.clear();
  for (const auto& row : coder_table()) CHECK(seen.insert(row.id).second);
}

TEST_CASE("pipelines stay within their bound, or are exact, on every dtype") {
  for_each_case([](const PipelineCase& c, const Pipeline& p, const TileContext& context, TileShape shape) {
    for (const Fill fill : kFills) {
      CAPTURE(static_cast<int>(fill));
      const DType type = context.source;
      const Bytes elements = sample_elements(type, shape.rows, shape.cols, fill);
      const Bytes payload = p.encode(context, shape, elements);
      if (fill == Fill::ordinary) CHECK(payload == p.encode(context, shape, elements));
      CHECK(payload.size() <= elements.size() + 1);
      const Bytes back = decoded(p, context, shape, payload, elements.size());
      const bool finite = is_codable_float(type) && fill != Fill::specials;
      if (p.exact()) {
        CHECK(back == elements);
      } else if (c.bound == 0 && finite && fill != Fill::tiny) {
        CHECK(floats_of(type, back) == floats_of(type, elements));
      } else {
        // At the edge of the range of float sums overflow and the smallest steps vanish: no bound, but no surprise.
        const bool edge = fill == Fill::huge || fill == Fill::tiny;
        check_values(type, elements, back, edge ? 4 : c.bound);
      }
      const FrameSizes sizes = Pipeline::sizes(payload, payload.size());
      std::uint64_t sum = 0;
      for (const std::uint64_t n : sizes.bytes) sum += n;
      CHECK(sum == payload.size());
    }
  });
}

TEST_CASE("adapt: channels of every number, on every dtype and kind of data") {
  for (const PipelineCase& c : kPipelineCases) {
    if (c.text.find("adapt") == std::string_view::npos || c.text.find("rope") != std::string_view::npos) continue;
    CAPTURE(c.text);
    for (const DType type : codable_dtypes()) {
      for (const Shape& size : kNarrow) {
        for (const Fill fill : kFills) {
          CAPTURE(static_cast<int>(fill));
          CAPTURE(size.cols);
          const TileContext context = sample_context(type, size.cols, size.rows);
          const TileShape shape{size.rows, size.cols, 0, true, true};
          const Pipeline p = resolved(c.text, context, shape);
          const Bytes elements = sample_elements(type, size.rows, size.cols, fill);
          const Bytes back = decoded(p, context, shape, p.encode(context, shape, elements), elements.size());
          check_values(type, elements, back, fill == Fill::huge || fill == Fill::tiny ? 4 : std::max(c.bound, 1.0));
        }
      }
    }
  }
}

TEST_CASE("a tile inside a longer sequence comes back the same") {
  for (const PipelineCase& c : kPipelineCases) {
    CAPTURE(c.text);
    for (const std::uint64_t first : {0u, 13u, 26u}) {
      const TileContext context = sample_context(DType::f16, 12, 39);
      const TileShape shape{13, 12, first, true, true};
      const Pipeline p = resolved(c.text, context, shape);
      const Bytes elements = sample_elements(DType::f16, 13, 12, Fill::ordinary, first);
      const Bytes back = decoded(p, context, shape, p.encode(context, shape, elements), elements.size());
      check_values(DType::f16, elements, back, c.bound);
    }
  }
}

TEST_CASE("windows are exact: first tokens, last tokens, tokens mod R") {
  const TileContext context = sample_context(DType::f32, 8, 300);
  const auto exact_rows = [&](std::string_view text, std::uint64_t first, std::uint32_t rows) {
    const TileShape shape{rows, 8, first, true, true};
    const Pipeline p = resolved(text, context, shape);
    const Bytes elements = sample_elements(DType::f32, rows, 8, Fill::ordinary, first);
    const Bytes back = decoded(p, context, shape, p.encode(context, shape, elements), elements.size());
    std::string map;
    for (std::size_t r = 0; r < rows; ++r) {
      map += std::equal(elements.begin() + static_cast<std::ptrdiff_t>(r * 32),
                        elements.begin() + static_cast<std::ptrdiff_t>((r + 1) * 32),
                        back.begin() + static_cast<std::ptrdiff_t>(r * 32))
                 ? '1'
                 : '0';
    }
    return map;
  };
  CHECK(exact_rows("window:sink=3:recent=0,quant:bits=2,pack", 0, 6) == "111000");
  CHECK(exact_rows("window:sink=3:recent=0,quant:bits=2,pack", 2, 6) == "100000");
  CHECK(exact_rows("window:recent=2,quant:bits=2,pack", 294, 6) == "000011");
  CHECK(exact_rows("window:recent=8,quant:bits=2,pack", 290, 5) == "00111");
  // 300 mod 128 = 44: tokens from 256 on.
  CHECK(exact_rows("window:recent=128:rule=modulo,quant:bits=2,pack", 253, 6) == "000111");
  CHECK(exact_rows("window:recent=100:rule=modulo,quant:bits=2,pack", 294, 6) == "000000");
  // Behind padding there is nothing: an end behind all tokens is theirs.
  CHECK(exact_rows("window:recent=2:end=4096,quant:bits=2,pack", 294, 6) == "000011");
}

TEST_CASE("outliers are exact whatever the stages after them do") {
  const std::uint32_t rows = 40, cols = 8;
  const TileContext context = sample_context(DType::f32, cols, rows);
  const TileShape shape{rows, cols, 0, true, true};
  const Pipeline p = resolved("outliers:count=2:axis=channel,quant:bits=1,lowrank:rank=1,pack", context, shape);
  const Bytes elements = sample_elements(DType::f32, rows, cols, Fill::ordinary);
  const auto before = floats_of(DType::f32, elements);
  const auto after =
      floats_of(DType::f32, decoded(p, context, shape, p.encode(context, shape, elements), elements.size()));
  for (std::uint32_t c = 0; c < cols; ++c) {
    std::size_t low = c, high = c;
    for (std::size_t i = c; i < before.size(); i += cols) {
      if (before[i] < before[low]) low = i;
      if (before[i] > before[high]) high = i;
    }
    CHECK(after[low] == before[low]);
    CHECK(after[high] == before[high]);
  }
}

TEST_CASE("a trial stage is left out where it does not pay") {
  // Independent tokens: differences are larger than the values. Slowly changing tokens: much smaller.
  const std::uint32_t rows = 60, cols = 8;
  const TileContext context = sample_context(DType::f32, cols, rows);
  const TileShape shape{rows, cols, 0, true, true};
  std::vector<float> slow(rows * cols);
  for (std::size_t i = 0; i < slow.size(); ++i) {
    const std::size_t row = i / cols;
    slow[i] = std::sin(static_cast<float>(row) * 0.02f) * 100;
  }
  const Bytes changing(std::as_bytes(std::span(slow)).begin(), std::as_bytes(std::span(slow)).end());
  const std::string quant = "quant:levels=31:mode=absmax:axis=tile,ac";
  const auto size = [&](const std::string& text, const Bytes& elements) {
    return resolved(text, context, shape).encode(context, shape, elements).size();
  };
  for (const Bytes& elements : {sample_elements(DType::f32, rows, cols, Fill::ordinary), changing}) {
    const std::size_t with = size("delta:keep=always," + quant, elements), without = size(quant, elements);
    CHECK(size("delta," + quant, elements) == std::min(with, without));
  }
  const Bytes noise = sample_elements(DType::f32, rows, cols, Fill::ordinary);
  const Bytes payload = resolved("delta," + quant, context, shape).encode(context, shape, noise);
  CHECK(payload[1] == std::byte{1});  // the set of stages left out: the first
}

TEST_CASE("truncated payloads fail and damaged ones fail or decode, at every byte and bit") {
  const std::uint32_t rows = 11, cols = 8;
  for (const PipelineCase& c : kPipelineCases) {
    CAPTURE(c.text);
    for (const Fill fill : {Fill::ordinary, Fill::constant, Fill::specials}) {
      const TileContext context = sample_context(DType::bf16, cols, rows);
      const TileShape shape{rows, cols, 0, true, true};
      const Pipeline p = resolved(c.text, context, shape);
      const Bytes elements = sample_elements(DType::bf16, rows, cols, fill);
      std::vector<float> saliency;  // of both heads, so that they differ
      for (std::uint32_t i = 0; i < 2 * rows; ++i) saliency.push_back(static_cast<float>(i * i % 7));
      const Bytes payload = p.encode(context, shape, elements, nullptr, nullptr, saliency);
      Bytes out(elements.size());
      for (std::size_t n = 0; n < payload.size(); ++n) {
        CHECK_THROWS_AS(p.decode(context, shape, ByteView(payload).first(n), out), Error);
      }
      Bytes longer = payload;
      longer.push_back(std::byte{1});
      CHECK_THROWS_AS(p.decode(context, shape, longer, out), Error);
      std::size_t foreign = 0;
      for (std::size_t bit = 0; bit < payload.size() * 8; ++bit) {
        Bytes damaged = payload;
        damaged[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
        try {
          p.decode(context, shape, damaged, out);
          Pipeline::sizes(damaged, damaged.size());
        } catch (const Error& e) {
          foreign += e.code() != ErrorCode::corrupt && e.code() != ErrorCode::truncated;
        }
      }
      CHECK(foreign == 0);
    }
  }
}

TEST_CASE("random bytes as a payload fail or decode") {
  Random random(7);
  for (const PipelineCase& c : kPipelineCases) {
    CAPTURE(c.text);
    const TileContext context = sample_context(DType::f16, 8, 9);
    const TileShape shape{9, 8, 0, true, true};
    const Pipeline p = resolved(c.text, context, shape);
    Bytes out(9 * 8 * 2);
    for (int i = 0; i < 300; ++i) {
      Bytes payload(2 + random.below(120));
      for (std::byte& b : payload) b = static_cast<std::byte>(random.next() >> (random.below(2) == 0 ? 60 : 56));
      payload[0] = std::byte{0};
      payload[1] = std::byte{0};
      try {
        p.decode(context, shape, payload, out);
      } catch (const Error&) {
      }
    }
  }
}

TEST_CASE("a payload decodes to no more values than it has earned") {
  const TileContext context = sample_context(DType::f16, 1 << 10, 1 << 20);
  const TileShape shape{1 << 18, 1 << 10, 0, true, true};
  const Pipeline p = Pipeline::parse("planes,ac");
  Bytes out;  // refused before it is touched
  CHECK_THROWS_AS(p.decode(context, shape, Bytes(1000), out), Error);
  CHECK_THROWS_AS(p.decode(context, {1 << 24, 1 << 10, 0, true, true}, Bytes(1 << 20), out), Error);
}

TEST_CASE("a constant tile costs little and is padded to what its values must earn") {
  const std::uint32_t rows = 4096, cols = 256;
  const TileContext context = sample_context(DType::f16, cols, rows);
  const TileShape shape{rows, cols, 0, true, true};
  const Bytes elements = sample_elements(DType::f16, rows, cols, Fill::constant);
  for (const std::string_view text : {"planes,zstd", "planes,ac", "quant:bits=2:axis=tile,zstd"}) {
    CAPTURE(text);
    const Pipeline p = resolved(text, context, shape);
    const Bytes payload = p.encode(context, shape, elements);
    CHECK(payload.size() < elements.size() / 100);
    CHECK(decoded(p, context, shape, payload, elements.size()) == elements);
  }
}

TEST_CASE("filling in one group's automatic parameters leaves other copies alone") {
  const Pipeline shared = Pipeline::parse("rope,quant,pack");
  Pipeline first = shared, second = shared;
  TileContext context = sample_context(DType::f16, 16, 8);
  first.resolve(context, {8, 16, 0, true, true});
  context.head_dim = 32;
  context.rope.theta = 500000;
  second.resolve(context, {8, 64, 0, true, true});
  CHECK(first.text().find("theta=10000:") != std::string::npos);
  CHECK(first.text().find("dims=8") != std::string::npos);
  CHECK(second.text().find("theta=500000:") != std::string::npos);
  CHECK(second.text().find("dims=32") != std::string::npos);
  CHECK(shared.text() == "rope,quant:bits=4,pack");
}

}  // namespace kvzip::test
