// SPDX-License-Identifier: Apache-2.0
// The saliency of tokens against its definition.
#include <doctest/doctest.h>

#include "codec/rotary.hpp"
#include "codec/stages/stages.hpp"
#include "formats/kvz/tile_saliency.hpp"
#include "formats/query_set.hpp"
#include "formats/saliency_proxy.hpp"
#include "tests/contract/direct_saliency.hpp"
#include "tests/contract/every_instruction_set.hpp"

namespace kvzip::test {

using namespace saliency;

TEST_CASE("saliency: as it is defined, of grouped and causal queries") {
  const auto reader = made(2, kTokens);
  const auto want = finish({direct(direct_of(*reader, 0, kTokens, 0)), direct(direct_of(*reader, 1, kTokens, 0))});
  check_same(measured(*reader), want);
  // The sink is what matters most.
  CHECK(want.at({Role::value, 0, 0, 0})[0] > want.at({Role::value, 0, 0, 0})[60] + 2);
}

TEST_CASE("saliency: fewer queries than keys are of the last tokens, wherever the dump begins") {
  const auto reader = made(1, 40);
  reader->stated->model.rope.first_position = 1000;
  check_same(measured(*reader), finish({direct(direct_of(*reader, 0, 40, kTokens - 40))}));
}

TEST_CASE("saliency: where attention has a window, tokens count for the queries that see them") {
  for (const std::size_t window : {20u, 37u, 128u, 149u}) {
    CAPTURE(window);
    const auto reader = made(2, kTokens);
    reader->stated->model.own[1] = {.rope = {}, .window = window};
    Direct local = direct_of(*reader, 1, kTokens, 0);
    local.window = window;
    check_same(measured(*reader), finish({direct(direct_of(*reader, 0, kTokens, 0)), direct(local)}));
  }
}

TEST_CASE("saliency: a layer that keeps only the last tokens has their positions") {
  constexpr std::size_t kKept = 60;
  const auto whole = made(2, kTokens);
  std::vector<Spec> all = specs(2, kTokens);
  all[3].shape[1] = all[4].shape[1] = kKept;  // k1, v1
  const auto reader = sample_reader(all);
  const auto last = [&](const std::string& name, std::size_t dims) {
    const std::vector<float> x = get(*whole, name);
    std::vector<float> out;
    for (std::size_t h = 0; h < kHeads; ++h) {
      const float* end = x.data() + (h + 1) * kTokens * dims;
      out.insert(out.end(), end - kKept * dims, end);
    }
    return out;
  };
  for (const char* name : {"k0", "v0", "q0", "q1"}) set(*reader, name, get(*whole, name));
  set(*reader, "k1", last("k1", kDim));
  set(*reader, "v1", last("v1", kValueDim));
  Direct late = direct_of(*reader, 1, kTokens, 0);
  late.tokens = kKept;
  late.kept.resize(kHeads);
  for (auto& positions : late.kept) {
    for (std::size_t t = kTokens - kKept; t < kTokens; ++t) positions.push_back(t);
  }
  check_same(measured(*reader), finish({direct(direct_of(*reader, 0, kTokens, 0)), direct(late)}));
}

TEST_CASE("saliency: queries of another dump") {
  const auto reader = made(1, 0), other = made(1, 60);
  auto alone = sample_reader({{"q0", DType::f32, {kHeads * kGroup, 60, kDim}, Role::query, 0, "HTD"}});
  alone->stated->model.rope.first_position = 200;
  alone->data(0) = other->data(2);
  SaliencyOptions options;
  options.queries = alone.get();
  Direct d = direct_of(*other, 0, 60, 200);
  d.keys = get(*reader, "k0");
  d.values = get(*reader, "v0");
  check_same(measured(*reader, options), finish({direct(d)}));

  auto misfit = sample_reader({{"q0", DType::f32, {kHeads + 1, 60, kDim}, Role::query, 0, "HTD"}});
  options.queries = misfit.get();
  CHECK_THROWS_AS(measured(*reader, options), Error);
}

TEST_CASE("saliency: some queries ask for all") {
  const auto reader = made(1, kTokens);
  Direct all = direct_of(*reader, 0, kTokens, 0), some = all;
  some.queries.clear(), some.positions.clear();
  for (std::size_t j = 0; j < kHeads * kGroup; ++j) {
    for (std::size_t i = 0; i < 50; ++i) {
      const float* q = &all.queries[(j * kTokens + 3 * i + 1) * kDim];
      some.queries.insert(some.queries.end(), q, q + kDim);
      if (j == 0) some.positions.push_back(3 * i + 1);
    }
  }
  SaliencyOptions options;
  options.queries_per_head = 50;
  check_same(measured(*reader, options), finish({direct(some)}));
}

TEST_CASE("saliency: what is not finite is left out and gets nothing") {
  const auto reader = made(1, kTokens);
  std::vector<float> k = get(*reader, "k0"), v = get(*reader, "v0");
  k[(0 * kTokens + 20) * kDim + 3] = std::numeric_limits<float>::quiet_NaN();
  v[(1 * kTokens + 30) * kValueDim] = std::numeric_limits<float>::infinity();
  k[(1 * kTokens + 31) * kDim] = 1e18f;
  set(*reader, "k0", k);
  set(*reader, "v0", v);
  const Saliency got = measured(*reader);
  check_same(got, finish({direct(direct_of(*reader, 0, kTokens, 0))}));
  CHECK(got.heads.at({Role::key, 0, 0, 1})[31] == 0);
}

TEST_CASE("saliency: zeros say nothing, and of short dumps only the proxy does") {
  const auto reader = made(1, kTokens);
  set(*reader, "v0", std::vector<float>(kHeads * kTokens * kValueDim));
  for (const float s : flat(measured(*reader))) CHECK(s == 0);
  for (const std::uint64_t tokens : {1u, 3u, 16u}) {
    const auto few = made(1, tokens, tokens);
    const Saliency got = measured(*few);
    CHECK_FALSE(got.from_queries);
    SaliencyOptions options;
    options.source = SaliencyOptions::Source::proxy;
    CHECK(flat(got) == flat(measured(*few, options)));
    options.source = SaliencyOptions::Source::queries;  // which are there
    CHECK(flat(got) == flat(measured(*few, options)));
  }
  CHECK(measured(*made(1, 17, 17)).from_queries);
}

TEST_CASE("saliency: rotated keys vary as they do without it, and keys stored before rotation are asked rotated") {
  const auto pre = made(1, kTokens), post = made(1, kTokens);
  Rope rope{.theta = 500, .dims = kDim};
  const Rotary rotary(rope);
  std::vector<float> k = get(*pre, "k0"), q = get(*pre, "q0");
  for (std::size_t h = 0; h < kHeads; ++h) rotary.turn(0, 1, kTokens, 1, kDim, &k[h * kTokens * kDim]);
  for (std::size_t j = 0; j < kHeads * kGroup; ++j) rotary.turn(0, 1, kTokens, 1, kDim, &q[j * kTokens * kDim]);
  set(*post, "k0", k);
  set(*post, "q0", q);
  rope.state = Rope::State::pre;
  pre->stated->model.rope = rope;
  rope.state = Rope::State::post;
  post->stated->model.rope = rope;
  Direct d = direct_of(*post, 0, kTokens, 0);
  d.plain_keys = get(*pre, "k0");
  check_same(measured(*post), finish({direct(d)}));
  check_same(measured(*pre), finish({direct(d)}));
}

TEST_CASE("saliency: the same on every instruction set, with any number of threads") {
  const auto reader = made(2, kTokens);
  const std::vector<float> first = on_every_instruction_set([&] { return flat(measured(*reader)); });
  for (const unsigned threads : {1u, 2u, 5u}) {
    SaliencyOptions options;
    options.threads = threads;
    CHECK(flat(measured(*reader, options)) == first);
  }
}

TEST_CASE("saliency: without queries, tokens of tiny values stand out") {
  std::vector<double> squares(13, 4.0);
  squares[0] = 1.0 / 16, squares[1] = 1.5, squares[2] = 0, squares[3] = kNone, squares[4] = 0.5, squares[5] = 1e-9;
  const std::vector<float> expected{20, 20, 0, 0, 9, 24, 0, 0, 0, 0, 0, 0, 0};
  const std::vector<float> few = proxy_saliency(squares);  // of few tokens they stand out less
  const auto finite = std::count_if(squares.begin(), squares.end(), [](double x) { return std::isfinite(x); });
  for (std::size_t t = 0; t < few.size(); ++t) {
    CHECK(few[t] == doctest::Approx(expected[t] * std::log2(static_cast<double>(finite)) / 9).epsilon(1e-6));
  }
  std::vector<double> many = squares;
  many.resize(squares.size() + 512, 4.0);
  const std::vector<float> all = proxy_saliency(many);
  CHECK(std::vector<float>(all.begin(), all.begin() + 13) == expected);
  CHECK(proxy_saliency(std::vector<double>{1}) == std::vector<float>{0});
  // Where there are only first ones, tiny values alone tell them apart.
  const std::vector<float> first = proxy_saliency(std::vector<double>{0.25, 4, 4});
  CHECK(first[0] == doctest::Approx(3 * 4 * std::log2(3.0) / 9).epsilon(1e-6));
  CHECK(first[1] == 0);
  CHECK(proxy_saliency(std::vector<double>{0, 0}) == std::vector<float>{0, 0});
  CHECK(proxy_saliency({}).empty());

  const auto reader = made(1, 0);
  const Saliency got = measured(*reader);
  CHECK_FALSE(got.from_queries);
  const std::vector<float>& keys = got.heads.at({Role::key, 0, 0, 1});
  CHECK(keys[0] > keys[60] + 10);
  const std::vector<float>& values = got.heads.at({Role::value, 0, 0, 1});
  for (std::size_t t = 0; t < keys.size(); ++t) CHECK(keys[t] - values[t] == doctest::Approx(1.2).epsilon(1e-4));
  double sum = 0;
  for (const float s : flat(got)) sum += s;
  CHECK(sum / static_cast<double>(flat(got).size()) == doctest::Approx(1.8));  // finer than the mean of what is known
  SaliencyOptions options;
  options.source = SaliencyOptions::Source::queries;
  CHECK_THROWS_AS(measured(*reader, options), Error);
}

TEST_CASE("saliency: padding is no token and asks nothing") {
  for (const std::uint64_t queries : {std::uint64_t{0}, kTokens, kTokens + 100}) {
    CAPTURE(queries);
    const auto alone = made(2, std::min(queries, kTokens));
    auto all = specs(2, 0, kTokens + 100);
    for (std::uint32_t l = 0; l < 2 && queries != 0; ++l) {
      all.push_back({fmt::format("q{}", l), DType::f32, {kHeads * kGroup, queries, kDim}, Role::query, l, "HTD"});
    }
    const auto padded = sample_reader(all);
    for (const Spec& spec : all) {
      const std::vector<float> rows = get(*alone, spec.name);
      const std::size_t heads = spec.shape[0], long_head = spec.shape[1] * spec.shape[2], head = rows.size() / heads;
      std::vector<float> longer(heads * long_head);
      for (std::size_t h = 0; h < heads; ++h) std::copy_n(&rows[h * head], head, &longer[h * long_head]);
      set(*padded, spec.name, longer);
    }
    const Saliency wanted = measured(*alone), got = measured(*padded);
    REQUIRE(got.heads.size() == wanted.heads.size());
    for (const auto& [head, numbers] : wanted.heads) {
      std::vector<float> expected = numbers;
      expected.resize(kTokens + 100);
      CHECK(got.heads.at(head) == expected);
    }
  }
}

TEST_CASE("saliency: layers that no query is of have the proxy") {
  auto some = specs(2, kTokens);
  some.pop_back();
  const auto reader = sample_reader(some);
  const Saliency got = measured(*reader);
  CHECK(got.from_queries);
  CHECK(got.heads.size() == 2 * 2 * kHeads);
  CHECK(got.by_proxy == std::set<std::pair<std::uint32_t, std::uint64_t>>{{1, 0}});
  const std::vector<float>&keys = got.heads.at({Role::key, 1, 0, 0}), &values = got.heads.at({Role::value, 1, 0, 0});
  for (std::size_t t = 0; t < keys.size(); ++t) CHECK(keys[t] - values[t] == doctest::Approx(1.2).epsilon(1e-4));
}

namespace {

/// Tokens were left out: `lists` heads (1 or all) say where those that stay stood.
std::unique_ptr<MemoryReader> pruned(std::uint64_t queries, const std::vector<std::vector<std::size_t>>& lists) {
  std::vector<Spec> all = specs(1, queries);
  const bool heads = lists.size() > 1;
  all.push_back({"positions", DType::i64, {kTokens}, Role::other, {}, ""});
  if (heads) all.back().shape = {1, kHeads, kTokens};
  auto reader = sample_reader(all);
  const auto values = made(1, queries);
  for (const char* name : {"k0", "v0", "q0"}) {
    if (name[0] != 'q' || queries > 0) set(*reader, name, get(*values, name));
  }
  std::vector<std::int64_t> numbers;
  for (const auto& list : lists) numbers.insert(numbers.end(), list.begin(), list.end());
  std::memcpy(reader->data(all.size() - 1).data(), numbers.data(), numbers.size() * 8);
  return reader;
}

/// With gaps that grow, from `first` on.
std::vector<std::size_t> gaps(std::size_t first, std::size_t step) {
  std::vector<std::size_t> out;
  for (std::size_t t = 0; t < kTokens; ++t) out.push_back(first + t + t / step * 3);
  return out;
}

}  // namespace

TEST_CASE("saliency: where tokens were left out, a query sees those up to its own position") {
  // Each head has its list; queries of another dump, from the middle of the sequence on.
  const std::vector<std::vector<std::size_t>> lists{gaps(0, 4), gaps(2, 7)};
  for (const std::size_t window : {0u, 90u}) {
    CAPTURE(window);
    const auto reader = pruned(0, lists), other = made(1, 60);
    if (window > 0) reader->stated->model.own[0] = {.rope = {}, .window = window};
    auto alone = sample_reader({{"q0", DType::f32, {kHeads * kGroup, 60, kDim}, Role::query, 0, "HTD"}});
    alone->stated->model.rope.first_position = 100;
    alone->data(0) = other->data(2);
    SaliencyOptions options;
    options.queries = alone.get();
    Direct d = direct_of(*other, 0, 60, 100);
    d.keys = get(*reader, "k0");
    d.values = get(*reader, "v0");
    d.kept = lists;
    d.window = window;
    check_same(measured(*reader, options), finish({direct(d)}));
  }
}

TEST_CASE("saliency: queries of a dump that tokens were left out of are of those that stay") {
  const std::vector<std::size_t> list = gaps(3, 5);
  for (const std::uint64_t queries : {kTokens, std::uint64_t{40}}) {
    CAPTURE(queries);
    const auto reader = pruned(queries, {list});
    Direct d = direct_of(*reader, 0, queries, 0);
    d.kept = {list, list};
    d.positions.assign(list.end() - static_cast<std::ptrdiff_t>(queries), list.end());
    check_same(measured(*reader), finish({direct(d)}));
    // Keys before rotation turn by where they stood, and so do the queries.
    Rope rope{.theta = 500, .dims = kDim};
    const Rotary rotary(rope);
    const auto turned = [&](std::vector<float> rows, std::size_t heads, const std::vector<std::size_t>& at) {
      for (std::size_t i = 0; i < heads * at.size(); ++i)
        rotary.turn(at[i % at.size()], 1, 1, 1, kDim, &rows[i * kDim]);
      return rows;
    };
    rope.state = Rope::State::pre;
    reader->stated->model.rope = rope;
    d.plain_keys = d.keys;
    d.keys = turned(d.keys, kHeads, list);
    d.queries = turned(d.queries, kHeads * kGroup, d.positions);
    check_same(measured(*reader), finish({direct(d)}));
  }
  const auto reader = pruned(40, {list});
  const QuerySet set(*reader, *reader->recognition());
  const LayerQueries& queries = *set.of({0, 0});
  CHECK(queries.position(0) == list[kTokens - 40]);
  CHECK(set.first_position() == list[kTokens - 40]);
  CHECK(set.end_position() == list.back() + 1);
  CHECK(set.choose(queries, list[kTokens - 3], 0) == std::vector<std::uint64_t>{37, 38, 39});
  CHECK(set.choose(queries, 0, 0).size() == 40);
  // Heads that keep other tokens leave open whose the queries are.
  CHECK_FALSE(measured(*pruned(kTokens, {gaps(0, 4), gaps(2, 7)})).from_queries);
}

TEST_CASE("saliency: a tile has that of its members' rows") {
  const auto reader = made(2, kTokens);
  const Saliency s = measured(*reader);
  const auto tile = [&](const Saliency& of, std::string_view rules, std::size_t group, std::uint64_t frame) {
    const Plan plan = make_plan(reader->dump(), *reader->recognition(), RuleSet::parse(rules, "test"), 64);
    const PlanGroup& g = plan.groups.at(group);
    return tile_saliency(of, g, plan.shape(reader->dump(), g, g.first_frame + frame));
  };
  // One head: its own.
  const std::vector<float> last = tile(s, "key/head = planes,pack\nvalue = planes,pack", 1, 2);
  const std::vector<float>& head = s.heads.at({Role::key, 0, 0, 1});
  CHECK(last == std::vector<float>(head.begin() + 128, head.end()));
  // All heads of two layers' keys and values.
  const std::vector<float> joint = tile(s, "kv/layers=2 = planes,pack", 0, 1);
  REQUIRE(joint.size() == 64 * s.heads.size());
  std::size_t at = 0;  // keys of layer 0 and 1, then values
  for (const Role role : {Role::key, Role::value}) {
    for (const std::uint32_t layer : {0u, 1u}) {
      for (std::uint64_t h = 0; h < kHeads; ++h, ++at) {
        const std::vector<float>& own = s.heads.at({role, layer, 0, h});
        for (std::size_t r = 0; r < 64; ++r) CHECK(joint[r * s.heads.size() + at] == own[64 + r]);
      }
    }
  }
  // Without one of the heads, or where a layer has the proxy: the mean of those that are known.
  for (const bool proxy : {false, true}) {
    Saliency some = s;
    if (proxy) {
      some.by_proxy.emplace(1, 0);
    } else {
      some.heads.erase({Role::value, 1, 0, 0});
    }
    const std::vector<float> mean = tile(some, "kv/layers=2 = planes,pack", 0, 1);
    REQUIRE(mean.size() == 64);
    for (std::size_t r = 0; r < 64; ++r) {
      double sum = 0;
      for (const auto& [place, numbers] : some.heads) sum += std::exp2(numbers[64 + r]);
      CHECK(mean[r] == doctest::Approx(std::log2(sum / static_cast<double>(some.heads.size()))).epsilon(1e-5));
    }
  }
  CHECK(tile_saliency({}, make_plan(reader->dump(), *reader->recognition(), RuleSet::builtin("int8"), {}).groups[0],
                      {kTokens, kHeads * kDim, 0})
            .empty());
}

TEST_CASE("saliency: rows take theirs along, that of several heads, too, when a stage takes them out or sorts them") {
  TileContext context;
  context.heads = 1, context.head_dim = 3, context.total_tokens = 10, context.source = DType::f32;
  const auto after = [&](std::unique_ptr<Stage> stage, std::string_view name,
                         const std::vector<std::string_view>& items, int heads) {
    Tile tile(context, {10, 3, 0});
    std::fill(tile.values.begin(), tile.values.end(), 1.0f);
    tile.values[3 * 7] = 0;  // the only row with a median above its least
    for (int t = 0; t < 10 * heads; ++t) tile.saliency.push_back(static_cast<float>(t));
    parse_fields(*stage, name, items);
    std::vector<Stream> streams;
    StreamWriter writer(streams);
    EncodeContext to{writer};
    stage->encode(tile, to);
    return tile.saliency;
  };
  CHECK(after(make_window(), "window", {"sink=2", "recent=3"}, 1) == std::vector<float>{2, 3, 4, 5, 6});
  CHECK(after(make_window(), "window", {"sink=4", "recent=4"}, 2) == std::vector<float>{8, 9, 10, 11});
  CHECK(after(make_delta(), "delta", {"ref=anchor", "every=4"}, 2) ==
        std::vector<float>{2, 3, 4, 5, 6, 7, 10, 11, 12, 13, 14, 15, 18, 19});
  CHECK(after(make_sort(), "sort", {}, 1) == std::vector<float>{7, 0, 1, 2, 3, 4, 5, 6, 8, 9});
  CHECK(after(make_sort(), "sort", {}, 2) ==
        std::vector<float>{14, 15, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 16, 17, 18, 19});
}

TEST_CASE("saliency: pipelines that make no use of it do not depend on it") {
  const auto reader = made(1, kTokens);
  KvzOptions options = options_of("key = quant:bits=4,pack\nvalue = uniform:step=0.1,rans", 32);
  CHECK_FALSE(weighs(options.rules));
  const Bytes without = compressed(*reader, options);
  options.saliency = std::make_shared<Saliency>(measured(*reader));
  CHECK(compressed(*reader, options) == without);
}

}  // namespace kvzip::test
