// SPDX-License-Identifier: Apache-2.0
// Digests of pages: bounds against every key, recall against its definition in double, and the record.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "codec/limits.hpp"
#include "src/measure/attention_outputs.hpp"
#include "src/measure/page_ranking.hpp"
#include "tests/support/cache_layouts.hpp"
#include "tests/support/direct_attention.hpp"

using namespace kvzip;
using namespace kvzip::test;
using namespace kvzip::tool;

namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN(), kInfinity = std::numeric_limits<float>::infinity();
constexpr std::uint32_t kPage = 16;

PageList digest(std::uint64_t heads, std::uint64_t tokens, std::uint64_t channels, std::uint32_t page,
                const std::vector<float>& keys) {
  PageDigester digester(heads, tokens, channels, page);
  digester.add(0, tokens, keys);
  return digester.finish();
}

bool finite(const float* x, std::size_t n) {
  return std::all_of(x, x + n, [](float v) { return std::isfinite(v); });
}

/// The most that q.k of a page's finite keys is, and what their box allows.
struct Exact {
  double most = -std::numeric_limits<double>::infinity(), box = 0;
};
Exact exact(const float* keys, std::size_t count, std::size_t dims, const float* query) {
  Exact out;
  for (std::size_t t = 0; t < count; ++t) {
    if (finite(keys + t * dims, dims)) out.most = std::max(out.most, dot_of(query, keys + t * dims, dims));
  }
  for (std::size_t c = 0; c < dims; ++c) {
    double best = -std::numeric_limits<double>::infinity();
    for (std::size_t t = 0; t < count; ++t) {
      if (finite(keys + t * dims, dims)) best = std::max(best, double{query[c]} * keys[t * dims + c]);
    }
    out.box += best;
  }
  return out;
}

}  // namespace

TEST_CASE("pages: bounds hold for every key, and a box is no looser than its codes") {
  const std::size_t heads = 2, tokens = 75, dims = 8;
  for (const float size : {1e-40f, 1.0f, 1e20f}) {
    std::vector<float> keys = normal(heads * tokens * dims, 11);
    for (std::size_t i = 0; i < keys.size(); ++i) {
      keys[i] = size * (i % dims == 3 ? 40 + keys[i] : i % dims == 5 ? 7.0f : keys[i]);  // outliers, and a constant
    }
    const PageList list = digest(heads, tokens, dims, kPage, keys);
    REQUIRE(list.pages == 5);
    const std::vector<float> queries = normal(20 * dims, 12);
    for (std::size_t i = 0; i < 20; ++i) {
      const std::span<const float> q = std::span(queries).subspan(i * dims, dims);
      for (std::size_t h = 0; h < heads; ++h) {
        for (std::size_t p = 0; p < list.pages; ++p) {
          const std::size_t count = std::min<std::size_t>(kPage, tokens - p * kPage);
          const Exact want = exact(keys.data() + (h * tokens + p * kPage) * dims, count, dims, q.data());
          double codes = 0;
          for (std::size_t c = 0; c < dims; ++c) codes += std::fabs(q[c]) * list.step[h * dims + c];
          const double box = page_bound(list, h, p, q, PageBy::box), sphere = page_bound(list, h, p, q, PageBy::sphere);
          CHECK(box >= want.most);
          CHECK(sphere >= want.most);
          CHECK(box <= want.box + codes * (1 + 1e-6));
          CHECK(page_bound(list, h, p, q, PageBy::both) == std::min(box, sphere));
        }
      }
    }
  }
}

TEST_CASE("pages: a sphere reaches as far as its farthest key from the mean") {
  // Keys (0, 0), (2, 0), (1, 3): the mean is (1, 1), distances are sqrt 2, sqrt 2 and 2. Codes are exact to 3/255.
  const PageList list = digest(1, 3, 2, 4, {0, 0, 2, 0, 1, 3});
  CHECK(list.value(0, 0, list.centre[0]) == doctest::Approx(1).epsilon(0.01));
  CHECK(list.value(0, 1, list.centre[1]) == doctest::Approx(1).epsilon(0.01));
  CHECK(list.radius[0] >= 2 - 1e-6);
  CHECK(list.radius[0] <= 2 + 0.01);
  const std::vector<float> q{0, 1};
  CHECK(page_bound(list, 0, 0, q, PageBy::sphere) == doctest::Approx(3).epsilon(0.01));  // 1 + 2
  CHECK(page_bound(list, 0, 0, q, PageBy::box) == doctest::Approx(3));
}

TEST_CASE("pages: keys that are not finite are not there, the largest floats are") {
  const std::size_t dims = 4;
  std::vector<float> keys = normal(12 * dims, 13);
  for (std::size_t t = 0; t < 4; ++t) keys[t * dims + t % dims] = t % 2 == 0 ? kNaN : -kInfinity;  // all of page 0
  keys[5 * dims] = kInfinity;
  for (std::size_t c = 0; c < dims; ++c) {
    keys[8 * dims + c] = std::numeric_limits<float>::max();
    keys[9 * dims + c] = std::numeric_limits<float>::lowest();
  }
  const PageList list = digest(1, 12, dims, 4, keys);
  CHECK(list.empty(0, 0));
  const std::vector<float> queries = normal(10 * dims, 14);
  for (std::size_t i = 0; i < 10; ++i) {
    const std::span<const float> q = std::span(queries).subspan(i * dims, dims);
    CHECK(page_bound(list, 0, 0, q, PageBy::both) == -std::numeric_limits<double>::infinity());
    for (const std::size_t p : {1u, 2u}) {
      const Exact want = exact(keys.data() + p * 4 * dims, 4, dims, q.data());
      CHECK(page_bound(list, 0, p, q, PageBy::box) >= want.most);
      CHECK(page_bound(list, 0, p, q, PageBy::sphere) >= want.most);
    }
  }
  CHECK(page_bound(list, 0, 2, std::vector<float>(dims), PageBy::both) == 0);  // a query of zeros, an endless radius
  const PageList nothing = digest(1, 2, 1, 8, {kNaN, kInfinity});
  CHECK(nothing.pages == 1);
  CHECK(nothing.empty(0, 0));
  CHECK(read_kvz_pages(write_kvz_pages({8, {nothing}})).lists.size() == 1);
}

namespace {

/// One query's masses and bounds, as their definitions say.
struct Defined {
  std::vector<double> masses;
  std::array<std::vector<double>, 3> bounds;
};
Defined define(const PageList& list, std::size_t head, const std::vector<float>& keys, const float* query,
               std::size_t position) {
  std::vector<double> s;
  for (std::size_t t = 0; t <= position; ++t) {
    s.push_back(dot_of(query, keys.data() + t * kDim, kDim) / std::sqrt(double{kDim}));
  }
  const std::vector<double> p = log_softmax(s);
  Defined out;
  out.masses.resize(position / kPage + 1);
  for (std::size_t t = 0; t <= position; ++t) out.masses[t / kPage] += std::exp(p[t]);
  for (std::size_t page = 0; page < out.masses.size(); ++page) {
    const std::span<const float> q(query, kDim);
    for (const PageBy by : {PageBy::box, PageBy::sphere, PageBy::both}) {
      out.bounds[static_cast<std::size_t>(by)].push_back(page_bound(list, head, page, q, by));
    }
  }
  return out;
}

double held(const std::vector<double>& masses, const std::vector<double>& scores, std::size_t n) {
  double sum = 0;
  for (const std::size_t page : top_tokens(scores, n)) sum += masses[page];
  return sum;
}

}  // namespace

TEST_CASE("pages: recall is what its definition says") {
  const Sides s;
  for (const bool merged : {false, true}) {
    const Made made = separate(merged ? "TC" : "HTD")(s.key, s.value, &s.query);
    MemoryReader reader = made.reader();
    const KvzPages pages = digest_pages(reader, made.recognition, kPage);
    Asking asking(reader, made.recognition, {});
    const Asking::Layer layer{1, 0};
    const PageList& list = pages_of(pages, asking, layer);
    const PageRecall got = page_recall(asking, layer, pages, list.pages, {}).means();
    CHECK(got.queries == kHeads * kGroup * kTokens);
    REQUIRE(got.rows.size() == 5);  // 1, 2, 4, 8 and 10
    std::array<std::array<double, 4>, 5> want{};
    for (std::size_t j = 0; j < kHeads * kGroup; ++j) {
      const std::vector<float> q = s.query.head(1, 0, j), k = s.key.head(1, 0, j / kGroup);
      for (std::size_t i = 0; i < kTokens; ++i) {
        const Defined d = define(list, j / kGroup, k, q.data() + i * kDim, i);
        for (std::size_t r = 0; r < got.rows.size(); ++r) {
          for (std::size_t by = 0; by < 4; ++by) {
            want[r][by] += held(d.masses, by < 3 ? d.bounds[by] : d.masses, got.rows[r].pages);
          }
        }
      }
    }
    for (std::size_t r = 0; r < got.rows.size(); ++r) {
      CAPTURE(r);
      for (std::size_t by = 0; by < 4; ++by) {
        CHECK(got.rows[r].recall[by] == doctest::Approx(want[r][by] / static_cast<double>(got.queries)).epsilon(1e-5));
        CHECK(got.rows[r].recall[by] <= got.rows[r].recall[3] + 1e-12);
      }
    }
    CHECK(got.rows.back().recall[0] == doctest::Approx(1));
    CHECK(got.rows.back().share == doctest::Approx(1));
  }
}

TEST_CASE("pages: attention to the first pages is what its definition says") {
  const Sides s;
  const Made made = separate("BHTD")(s.key, s.value, &s.query);
  MemoryReader reader = made.reader();
  const KvzPages pages = digest_pages(reader, made.recognition, kPage);
  REQUIRE(pages.lists.size() == kLayers * kBatch);
  Asking asking(reader, made.recognition, {});
  const Asking::Layer layer{1, 1};
  const AttentionOutputs got = attend(asking, layer, {0, 0, &pages, 2});
  CHECK(got.left_out == 0);
  double furthest = 0;
  for (std::size_t j = 0; j < kHeads * kGroup; ++j) {
    const std::vector<float> q = s.query.head(1, 1, j), k = s.key.head(1, 1, j / kGroup);
    const std::vector<float> v = s.value.head(1, 1, j / kGroup);
    for (std::size_t i = 0; i < kTokens; ++i) {
      const Defined d = define(pages_of(pages, asking, layer), j / kGroup, k, q.data() + i * kDim, i);
      const std::vector<std::size_t> top = top_tokens(d.bounds[2], 2);
      std::vector<double> logits;
      std::vector<std::size_t> seen;
      for (std::size_t t = 0; t <= i; ++t) {
        if (std::find(top.begin(), top.end(), t / kPage) == top.end()) continue;
        seen.push_back(t);
        logits.push_back(dot_of(q.data() + i * kDim, k.data() + t * kDim, kDim) / std::sqrt(double{kDim}));
      }
      const std::vector<double> want = output_of(log_softmax(logits), seen, v, kDim);
      for (std::size_t c = 0; c < kDim; ++c) {
        furthest = std::max(furthest, std::fabs(want[c] - got.data[(j * kTokens + i) * kDim + c]));
      }
    }
  }
  CHECK(furthest < 4e-6);
  CHECK(attend(asking, layer, {0, 0, &pages, 100}).data == attend(asking, layer, {}).data);
}

TEST_CASE("pages: chunks that no query asks are not read") {
  Sides s;
  for (std::size_t i = 0; i < s.key.x.size(); ++i) s.key.x[i] = i / kDim % kTokens < kPage ? 1.0f : -1.0f;
  for (float& x : s.query.x) x = std::fabs(x) + 0.1f;  // they ask for the first page
  const Made made = separate("HTD")(s.key, s.value, &s.query);
  MemoryReader reader = made.reader();
  const KvzPages pages = digest_pages(reader, made.recognition, kPage);
  Asking asking(reader, made.recognition, {});
  CHECK(attend(asking, {0, 0}, {0, 0, &pages, 1}).read == 128);
  CHECK(attend(asking, {0, 0}, {0, 0, &pages, 9}).read == kTokens);
  CHECK(attend(asking, {0, 0}, {}).read == kTokens);
}

TEST_CASE("pages: digests of keys before rotary embedding are of turned ones") {
  const Sides s;
  Made made = separate("HTD")(s.key, s.value, &s.query);
  Rope& rope = made.recognition.model.rope;
  rope.state = Rope::State::pre;
  rope.theta = 100;
  rope.first_position = 5;
  MemoryReader reader = made.reader();
  const KvzPages pages = digest_pages(reader, made.recognition, kPage);
  Asking asking(reader, made.recognition, {});
  asking.for_each_piece({0, 0}, false, [&](const Asking::Piece& piece) {
    const PageList want = digest(kHeads, kTokens, kDim, kPage, piece.keys);
    CHECK(pages.lists[0].low == want.low);
    CHECK(pages.lists[0].radius == want.radius);
    CHECK(want.radius != digest(kHeads, kTokens, kDim, kPage, s.key.x).radius);
  });
}

TEST_CASE("pages: a page has as many tokens as a reader allows, and no more") {
  const std::uint64_t tokens = limits::kPageTokens + 1;
  const PageList list = digest(1, tokens, 1, limits::kPageTokens, std::vector<float>(tokens, 1.0f));
  const Bytes most = write_kvz_pages({limits::kPageTokens, {list}});
  const KvzPages pages = read_kvz_pages(most);
  CHECK(pages.page_tokens == limits::kPageTokens);
  REQUIRE(pages.lists.size() == 1);
  CHECK(pages.lists[0].pages == 2);
  CHECK(pages.lists[0].centre == list.centre);
  std::string said;
  try {
    read_kvz_pages(write_kvz_pages({limits::kPageTokens + 1, {list}}));
  } catch (const Error& e) {
    said = e.what();
  }
  CHECK(said == fmt::format("pages: {} tokens are no page", limits::kPageTokens + 1));
}

TEST_CASE("pages: keys before rotary embedding are turned by the positions that a pruned cache had") {
  const Sides s;
  Made made = separate("HTD")(s.key, s.value, &s.query);
  Rope& rope = made.recognition.model.rope;
  rope.state = Rope::State::pre;
  rope.theta = 100;
  rope.dims = kDim;
  rope.first_position = 5;
  made.dump.tensors.push_back({"positions", DType::i64, {kTokens}});
  made.recognition.tensors.push_back({Role::other, {}, Axes(), ""});
  MemoryReader reader(made.dump, 1 << 20);
  for (std::size_t i = 0; i < made.data.size(); ++i) {
    from_float(DType::f32, made.data[i], reader.data(i));
  }
  for (std::uint64_t t = 0; t < kTokens; ++t) {
    const std::uint64_t position = 2 * t + t / 7;
    std::memcpy(reader.data(made.data.size()).data() + 8 * t, &position, 8);
  }
  const Rotary rotary(rope);
  std::vector<float> turned(s.key.x.begin(), s.key.x.begin() + kHeads * kTokens * kDim);  // of layer 0
  for (std::uint64_t row = 0; row < kHeads * kTokens; ++row) {
    const std::uint64_t t = row % kTokens;
    rotary.turn(5 + 2 * t + t / 7, 1, 1, 1, kDim, turned.data() + row * kDim);
  }
  Asking asking(reader, made.recognition, {});
  asking.for_each_piece({0, 0}, false, [&](const Asking::Piece& piece) { CHECK(piece.keys == turned); });
  const PageList want = digest(kHeads, kTokens, kDim, kPage, turned);
  const KvzPages pages = digest_pages(reader, made.recognition, kPage);
  CHECK(pages.lists[0].low == want.low);
  CHECK(pages.lists[0].radius == want.radius);
}

TEST_CASE("pages: the record comes back, and hostile ones are refused") {
  KvzPages pages{4, {digest(2, 9, 3, 4, normal(2 * 9 * 3, 15)), digest(1, 3, 2, 4, normal(6, 16))}};
  pages.lists[1].layer = 7;
  const Bytes good = write_kvz_pages(pages);
  const KvzPages again = read_kvz_pages(good);
  CHECK(write_kvz_pages(again) == good);
  CHECK(again.of(7, 0)->tokens == 3);
  CHECK(again.of(7, 1) == nullptr);
  const auto refused = [](ByteView bytes) {
    try {
      read_kvz_pages(bytes);
      return false;
    } catch (const Error& e) {
      return e.code() == ErrorCode::corrupt || e.code() == ErrorCode::truncated;
    }
  };
  for (std::size_t n = 0; n < good.size(); ++n) CHECK(refused(ByteView(good).first(n)));
  const auto edited = [&](std::size_t at, auto value) {
    Bytes bytes = good;
    std::memcpy(bytes.data() + at, &value, sizeof value);
    return refused(bytes);
  };
  CHECK(edited(0, std::uint32_t{0}));  // tokens of a page
  CHECK(edited(0, limits::kPageTokens + 1));
  CHECK(edited(4, std::uint32_t{3}));  // lists
  CHECK(edited(4, std::uint32_t{1}));
  CHECK(edited(8, std::uint32_t{7}));        // layers in order
  for (const std::size_t at : {20u, 24u}) {  // heads, channels
    CHECK(edited(at, std::uint32_t{0}));
    CHECK(edited(at, ~std::uint32_t{0}));
  }
  CHECK(edited(28, std::uint64_t{0}));  // tokens
  CHECK(edited(28, ~std::uint64_t{0}));
  CHECK(edited(36, kNaN));        // a scale
  CHECK(edited(36 + 24, -1.0f));  // a step
  CHECK(edited(36 + 48, kNaN));   // a radius
  const std::vector<std::uint8_t>& low = pages.lists[0].low;
  const auto above = std::find_if(low.begin(), low.end(), [](std::uint8_t code) { return code > 0; }) - low.begin();
  REQUIRE(above < 18);
  CHECK(edited(36 + 48 + 24 + 18 + static_cast<std::size_t>(above), std::uint8_t{0}));  // the high end of a box
}
