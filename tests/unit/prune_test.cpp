// SPDX-License-Identifier: Apache-2.0
// Scores against the papers' formulas, in double; lists; and what is left of a dump.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>

#include "codec/splitmix64.hpp"
#include "src/prune/pruned_reader.hpp"
#include "tests/support/cache_layouts.hpp"
#include "tests/support/direct_attention.hpp"
#include "tests/unit/scratch_directory.hpp"

using namespace kvzip;
using namespace kvzip::test;
using namespace kvzip::tool;

namespace {

std::string refusal(const std::function<void()>& run) {
  try {
    run();
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::invalid_argument);
    return error.what();
  }
  return {};
}

/// Accumulated softmax((q.k / sqrt(d) + noise) / tau) of one head: eq. 9 and 10 of Keyformer, or with neither noise nor
/// tau the column sums of H2O.
std::vector<double> direct_scores(const Sides& s, std::size_t layer, std::size_t head, std::uint64_t first_query,
                                  const ScoreOptions& o) {
  std::vector<double> out(kTokens);
  const std::vector<float> keys = s.key.head(layer, 0, head);
  const auto later = static_cast<double>(first_query);  // so many queries come after the cache
  for (std::size_t j = head * kGroup; j < (head + 1) * kGroup; ++j) {
    const std::uint64_t seed = splitmix64(splitmix64(splitmix64(o.seed, layer), 0), j);
    const std::vector<float> queries = s.query.head(layer, 0, j);
    for (std::size_t i = 0; i < kTokens; ++i) {
      const std::uint64_t position = first_query + i;
      double tau = 1;
      if (position >= kTokens) tau = 1 + static_cast<double>(position - kTokens + 1) / later;
      std::vector<double> x;
      for (std::size_t t = 0; t < kTokens && t <= position; ++t) {
        x.push_back(dot_of(queries.data() + i * kDim, keys.data() + t * kDim, kDim) / std::sqrt(double{kDim}));
        if (o.keyformer) x.back() = (x.back() + gumbel(splitmix64(seed, i), t)) / tau;
      }
      const std::vector<double> log_p = log_softmax(x);
      for (std::size_t t = 0; t < x.size(); ++t) out[t] += std::exp(log_p[t]);
    }
  }
  return out;
}

/// The same queries, `first` positions later than the cache's tokens.
Made later_queries(const Sides& s, std::uint64_t first) {
  Made out;
  for (std::uint32_t l = 0; l < kLayers; ++l) {
    out.add(fmt::format("layers.{}.query", l), Role::query, "HTD", s.query, nullptr, l);
  }
  out.dump.attributes.push_back(text_attribute("first_position", std::to_string(first)));
  return out;
}

Kept kept_of(KeepBy by, std::size_t batch) {
  Kept out{by, 5, {}};
  std::uint64_t shift = 0;
  for (std::uint64_t b = 0; b < batch; ++b) {
    for (std::uint64_t l = 0; l < (by == KeepBy::sequence ? 1 : kLayers); ++l) {
      for (std::uint64_t h = 0; h < (by == KeepBy::head ? kHeads : 1); ++h, ++shift) {
        out.lists[{b, l, h}] = {shift, 20 + shift, 21 + shift, 90, 149};
      }
    }
  }
  return out;
}

}  // namespace

TEST_CASE("prune: scores of H2O are sums of attention, of Keyformer with noise and temperature") {
  const Sides s;
  const Made made = separate("HTD")(s.key, s.value, &s.query);
  MemoryReader reader = made.reader();
  Asking asking(reader, made.recognition, {});
  for (const bool keyformer : {false, true}) {
    ScoreOptions options;
    options.keyformer = keyformer;
    options.seed = 11;
    const auto got = score_tokens(asking, options);
    REQUIRE(got.size() == kLayers);
    for (const auto& [layer, heads] : got) {
      for (std::size_t head = 0; head < kHeads; ++head) {
        const std::vector<double> want = direct_scores(s, layer.first, head, 0, options);
        double sum = 0;
        for (std::size_t t = 0; t < kTokens; ++t) {
          CHECK(heads[head][t] == doctest::Approx(want[t]).epsilon(1e-5));
          sum += heads[head][t];
        }
        CHECK(sum == doctest::Approx(double{kGroup * kTokens}));  // each query gives 1
      }
    }
    options.threads = 1;
    CHECK(score_tokens(asking, options) == got);
  }
}

TEST_CASE("prune: the temperature of Keyformer rises over queries that come after the cache") {
  const Sides s;
  const Made made = separate("HTD")(s.key, s.value, nullptr), other = later_queries(s, 100);
  MemoryReader reader = made.reader(), queries = other.reader();
  const ScratchDirectory scratch;
  const auto writer = create_writer(scratch.file("q.safetensors"), "safetensors", other.dump, false);
  transcode(queries, *writer, 1);
  writer->finish();
  Asking asking(reader, made.recognition, {scratch.file("q.safetensors"), 0, {{}, "HTD"}});
  ScoreOptions options;
  options.keyformer = true;
  const auto got = score_tokens(asking, options);
  const std::vector<double> want = direct_scores(s, 1, 1, 100, options);
  for (std::size_t t = 0; t < kTokens; ++t) CHECK(got.at({1, 0})[1][t] == doctest::Approx(want[t]).epsilon(1e-5));
}

TEST_CASE("prune: noise has the mean and the variance of Gumbel's distribution") {
  double sum = 0, squares = 0;
  constexpr int kDraws = 200000;
  for (int i = 0; i < kDraws; ++i) {
    const double x = gumbel(3, static_cast<std::uint64_t>(i));
    sum += x;
    squares += x * x;
  }
  const double mean = sum / kDraws;
  CHECK(mean == doctest::Approx(0.5772156649).epsilon(0.02));                            // Euler's constant
  CHECK(squares / kDraws - mean * mean == doctest::Approx(1.6449340668).epsilon(0.02));  // pi^2 / 6
}

TEST_CASE("prune: sinks and window stay, then what scores most, of equals the earlier") {
  using List = std::vector<std::uint64_t>;
  const std::vector<double> scores{9, 0, 5, 1, 5, 2, 5, 8, 0, 0};
  CHECK(choose_tokens(scores, {4, 0, 0}) == List{0, 2, 4, 7});
  CHECK(choose_tokens(scores, {5, 2, 2}) == List{0, 1, 7, 8, 9});
  CHECK(choose_tokens(scores, {4, 1, 3}) == List{0, 7, 8, 9});
  CHECK(choose_tokens(scores, {10, 3, 3}).size() == 10);
  CHECK(choose_tokens({}, {0, 0, 0}).empty());

  const std::map<Asking::Layer, LayerScores> two{{{0, 0}, {{3, 0, 1}, {0, 1, 0}}}, {{4, 0}, {{0, 2, 0}, {0, 3, 9}}}};
  const Kept all = keep_by_scores(two, KeepBy::sequence, {1, 0, 0});
  CHECK(all.of(0, 4, 1) == List{2});  // 3, 6, 10
  const Kept layers = keep_by_scores(two, KeepBy::layer, {1, 0, 0});
  CHECK(layers.of(0, 0, 1) == List{0});
  CHECK(layers.of(0, 4, 0) == List{2});
  const Kept heads = keep_by_scores(two, KeepBy::head, {1, 0, 0});
  CHECK(heads.of(0, 0, 1) == List{1});
  CHECK(heads.of(0, 4, 0) == List{1});
  CHECK(heads.lists.size() == 4);
}

TEST_CASE("prune: a mask is a digit for each token") {
  CHECK(parse_mask("10 1\n", 3) == std::vector<std::uint64_t>{0, 2});
  CHECK(refusal([] { parse_mask("101", 4); }).find("of 3 tokens, the cache of 4") != std::string::npos);
  CHECK(refusal([] { parse_mask("1a1", 3); }).find("digit 2 is neither") != std::string::npos);
}

TEST_CASE("prune: every layout keeps the tokens of each list, and says which") {
  const Sides s;
  struct Case {
    const char* name;
    Layout layout;
    std::size_t batch;
  };
  for (const Case& c : {Case{"HTD", separate("HTD"), 1}, Case{"THD", separate("THD"), 1}, Case{"TC", separate("TC"), 1},
                        Case{"DHT", separate("DHT"), 1}, Case{"BHTD", separate("BHTD"), kBatch},
                        Case{"LBTC", separate("LBTC", true), kBatch}, Case{"2LTHD", paired("2LTHD", "LTHD"), 1},
                        Case{"L2BHTD", paired("L2BHTD", "BLHTD"), kBatch}}) {
    CAPTURE(c.name);
    const Made made = c.layout(s.key, s.value, &s.query);
    for (const KeepBy by : {KeepBy::sequence, KeepBy::layer, KeepBy::head}) {
      CAPTURE(static_cast<int>(by));
      MemoryReader reader = made.reader();
      const Kept kept = kept_of(by, c.batch);
      if (by == KeepBy::head && made.recognition.tensors[0].axes.has('C')) {
        CHECK(refusal([&] { PrunedReader(reader, made.recognition, kept); }).find("no heads") != std::string::npos);
        continue;
      }
      PrunedReader pruned(reader, made.recognition, kept);
      Recognition roles = made.recognition;
      std::erase_if(roles.tensors, [](const TensorRole& role) { return role.role == Role::query; });
      REQUIRE(pruned.dump().tensors.size() == roles.tensors.size() + 1);
      for (const auto& [at, place] : find_heads(pruned.dump(), roles, 0)) {
        const Asking::Layer layer = at;
        const auto check = [&](const HeadRows& rows, const Cache& from) {
          std::vector<float> got;
          rows.read(pruned, rows.tensor, 0, 5, got);
          for (std::size_t h = 0; h < kHeads; ++h) {
            const std::vector<std::uint64_t>& list = kept.of(layer.second, layer.first, h);
            for (std::size_t i = 0; i < 5 * kDim; ++i) {
              REQUIRE(got[h * 5 * kDim + i] == from.x[from.at(layer.first, layer.second, h, list[i / kDim], i % kDim)]);
            }
          }
        };
        check(place.keys[0], s.key);
        check(place.values[0], s.value);
      }
      const TensorInfo& positions = pruned.dump().tensors.back();
      CHECK(positions.name == "positions");
      CHECK(positions.elements() == 5 * kept.lists.size());
      Bytes bytes(positions.bytes());
      pruned.read({roles.tensors.size(), std::vector<std::uint64_t>(positions.shape.size(), 0), positions.shape},
                  bytes);
      std::int64_t last[5];
      std::memcpy(last, bytes.data() + bytes.size() - sizeof last, sizeof last);
      CHECK(last[1] == static_cast<std::int64_t>(19 + kept.lists.size()));
      CHECK(last[4] == 149);
    }
  }
}

TEST_CASE("prune: metadata no longer lets rows be turned by their number; no dump is pruned twice") {
  const Sides s;
  Made made = separate("HTD")(s.key, s.value, &s.query);
  for (const char* name : {"rope", "rope_theta", "model"}) made.dump.attributes.push_back(text_attribute(name, "x"));
  made.dump.attributes.push_back(text_attribute("of", "queries", "q0"));
  const auto names = [&] {
    MemoryReader reader = made.reader();
    PrunedReader pruned(reader, made.recognition, kept_of(KeepBy::sequence, 1));
    std::string out;
    for (const Attribute& attribute : pruned.dump().attributes) out += attribute.name + " ";
    return out;
  };
  made.recognition.model.rope.state = Rope::State::post;
  CHECK(names() == "rope_theta model ");
  made.recognition.model.rope.state = Rope::State::pre;
  CHECK(names() == "rope model ");
  made.dump.tensors[0].name = "positions";
  CHECK(refusal([&] { names(); }).find("left out before") != std::string::npos);
}

TEST_CASE("prune: positions that llama.cpp states of its cells are those of the tokens that stay") {
  const Sides s;
  Made made = separate("HTD")(s.key, s.value, nullptr);
  made.dump.tensors.insert(made.dump.tensors.begin(), {"positions", DType::i32, {kTokens}});
  made.recognition.tensors.insert(made.recognition.tensors.begin(), TensorRole{});
  const auto prune = [&] {
    MemoryReader reader(made.dump);
    for (std::size_t t = 0; t < kTokens; ++t) {
      const auto position = static_cast<std::int32_t>(3 * t + 1);
      std::memcpy(reader.data(0).data() + 4 * t, &position, sizeof position);
    }
    PrunedReader pruned(reader, made.recognition, kept_of(KeepBy::sequence, 1));
    REQUIRE(pruned.dump().tensors.size() == made.dump.tensors.size());
    CHECK(pruned.dump().tensors.back() == TensorInfo{"positions", DType::i64, {5}});
    std::int64_t positions[5];
    pruned.read({pruned.dump().tensors.size() - 1, {0}, {5}}, std::as_writable_bytes(std::span(positions)));
    CHECK(std::vector<std::int64_t>(positions, positions + 5) == std::vector<std::int64_t>{1, 61, 64, 271, 448});
  };
  CHECK(refusal(prune).find("left out before") != std::string::npos);  // nothing says that it is a cache of llama.cpp
  made.dump.attributes.push_back(text_attribute("llama.cpp", "sequence 2"));
  CHECK(refusal(prune).empty());
}
