// SPDX-License-Identifier: Apache-2.0
// Outputs of attention against the definition, in double, with every logit in memory.
#include "src/measure/attention_outputs.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "src/measure/online_attention.hpp"
#include "src/prune/pruned_reader.hpp"
#include "tests/support/cache_layouts.hpp"
#include "tests/support/direct_attention.hpp"
#include "tests/unit/scratch_directory.hpp"

using namespace kvzip;
using namespace kvzip::test;
using namespace kvzip::tool;

namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

/// softmax(q.k / sqrt(dim)) v over the tokens up to the query's position, those that `usable` lacks left out.
std::vector<double> direct_output(const float* query, std::uint64_t position, const std::vector<float>& keys,
                                  const std::vector<float>& values, const std::vector<bool>& usable = {}) {
  std::vector<double> s;
  std::vector<std::size_t> seen;
  for (std::size_t t = 0; t < keys.size() / kDim && t <= position; ++t) {
    if (!usable.empty() && !usable[t]) continue;
    seen.push_back(t);
    s.push_back(dot_of(query, keys.data() + t * kDim, kDim) / std::sqrt(double{kDim}));
  }
  if (seen.empty()) return std::vector<double>(kDim);
  return output_of(log_softmax(s), seen, values, kDim);
}

std::vector<std::uint64_t> all_positions() {
  std::vector<std::uint64_t> out;
  for (std::uint64_t t = 0; t < kTokens; ++t) out.push_back(t);
  return out;
}

}  // namespace

TEST_CASE("attention outputs: every layout gives what the definition says") {
  const Sides s;
  struct Case {
    const char* name;
    Layout layout;
    std::size_t batch;
  };
  for (const Case& c : {Case{"HTD", separate("HTD"), 1}, Case{"TC", separate("TC"), 1}, Case{"DHT", separate("DHT"), 1},
                        Case{"BHTD", separate("BHTD"), kBatch}, Case{"LBTC", separate("LBTC", true), kBatch},
                        Case{"L2BHTD", paired("L2BHTD", "BLHTD"), kBatch}}) {
    CAPTURE(c.name);
    const Made made = c.layout(s.key, s.value, &s.query);
    MemoryReader reader = made.reader();
    Asking asking(reader, made.recognition, {});
    REQUIRE(asking.layers().size() == kLayers * c.batch);
    for (const auto& [layer, place] : asking.layers()) {
      const AttentionOutputs got = attend(asking, layer, {});
      CHECK(got.left_out == 0);
      REQUIRE(got.data.size() == kHeads * kGroup * kTokens * kDim);
      double furthest = 0;
      for (std::size_t j = 0; j < kHeads * kGroup; ++j) {
        const std::vector<float> q = s.query.head(layer.first, layer.second, j);
        const std::vector<float> k = s.key.head(layer.first, layer.second, j / kGroup);
        const std::vector<float> v = s.value.head(layer.first, layer.second, j / kGroup);
        for (std::size_t i = 0; i < kTokens; ++i) {
          const std::vector<double> want = direct_output(q.data() + i * kDim, i, k, v);
          for (std::size_t d = 0; d < kDim; ++d) {
            furthest = std::max(furthest, std::fabs(want[d] - got.data[(j * kTokens + i) * kDim + d]));
          }
        }
      }
      CHECK(furthest < 4e-6);  // of values about 1
    }
    const Asking::Layer first{0, 0};
    CHECK(attend(asking, first, {0, 1}).data == attend(asking, first, {0, 3}).data);
  }
}

TEST_CASE("attention outputs: pieces of 128 tokens or more give the same bits, others the same numbers") {
  const std::size_t tokens = 700;
  const std::vector<float> keys = normal(tokens * kDim, 7), values = normal(tokens * kDim, 8);
  const std::vector<float> queries = normal(20 * kDim, 9);
  std::vector<std::uint64_t> positions;
  for (std::uint64_t i = 0; i < 20; ++i) positions.push_back(1000 + i * 40);  // the last see all
  std::vector<std::uint64_t> at;
  for (std::uint64_t t = 0; t < tokens; ++t) at.push_back(1000 + t);
  const auto outputs = [&](std::size_t step) {
    OnlineAttention attention({kDim, kDim, 0}, queries, positions);
    for (std::size_t t = 0; t < tokens; t += step) {
      const std::size_t n = std::min(step, tokens - t) * kDim;
      attention.add(std::span(at).subspan(t, n / kDim), std::span(keys).subspan(t * kDim, n),
                    std::span(values).subspan(t * kDim, n));
    }
    std::vector<float> out(20 * kDim);
    attention.outputs(out);
    return out;
  };
  const std::vector<float> all = outputs(tokens);
  CHECK(outputs(128) == all);
  CHECK(outputs(384) == all);
  const std::vector<float> odd = outputs(33);
  for (std::size_t i = 0; i < all.size(); ++i) CHECK(odd[i] == doctest::Approx(all[i]).epsilon(1e-5));
  for (std::size_t d = 0; d < kDim; ++d) CHECK(all[d] == values[d]);  // the first sees one token
}

TEST_CASE("attention outputs: what is not finite is left out and counted") {
  const std::vector<std::uint64_t> positions = all_positions();
  std::vector<float> keys = normal(kTokens * kDim, 1), values = normal(kTokens * kDim, 2);
  std::vector<float> queries = normal(kTokens * kDim, 3);
  const std::vector<float> good_keys = keys, good_values = values;
  keys[0] = kNaN;
  keys[20 * kDim] = std::numeric_limits<float>::infinity();
  values[30 * kDim + 5] = kNaN;
  queries[40 * kDim] = kNaN;
  OnlineAttention attention({kDim, kDim, 0}, queries, positions);
  attention.add(positions, keys, values);
  std::vector<float> out(kTokens * kDim);
  attention.outputs(out);
  std::vector<bool> usable(kTokens, true);
  usable[0] = usable[20] = usable[30] = false;
  CHECK(attention.left_out() == 150 + 130 + 120 - 3);  // query 40 asks nothing
  for (std::size_t i = 0; i < kTokens; ++i) {
    const std::vector<double> want = direct_output(queries.data() + i * kDim, i, good_keys, good_values, usable);
    for (std::size_t d = 0; d < kDim; ++d) {
      if (i == 40) {
        CHECK(std::isnan(out[i * kDim + d]));
      } else {
        CHECK(out[i * kDim + d] == doctest::Approx(want[d]).epsilon(1e-5));
      }
    }
  }
  CHECK(out[0] == 0);  // query 0 sees token 0 only, which is left out
}

TEST_CASE("attention outputs: what is left of a cache is seen by the positions it had") {
  const Sides s;
  const Made made = separate("BHTD")(s.key, s.value, nullptr), asks = separate("BHTD")(s.key, s.value, &s.query);
  MemoryReader reader = made.reader(), asking_reader = asks.reader();
  const ScratchDirectory scratch;
  const auto writer = create_writer(scratch.file("q.safetensors"), "safetensors", asks.dump, false);
  transcode(asking_reader, *writer, 1);
  writer->finish();
  const RecogniseOptions names{{parse_map_rule("q{L}=query:BHTD"), parse_map_rule("*=other")}, ""};
  for (const KeepBy by : {KeepBy::sequence, KeepBy::layer, KeepBy::head}) {
    CAPTURE(static_cast<int>(by));
    Kept kept{by, 40, {}};
    for (const std::uint64_t b : {0u, 1u}) {
      for (std::uint64_t l = 0; l < (by == KeepBy::sequence ? 1 : kLayers); ++l) {
        for (std::uint64_t h = 0; h < (by == KeepBy::head ? kHeads : 1); ++h) {
          for (std::uint64_t t = 0; t < 40; ++t) kept.lists[{b, l, h}].push_back(3 * t + b + 2 * l + 4 * h + t / 20);
        }
      }
    }
    PrunedReader pruned(reader, made.recognition, kept);
    Recognition roles = made.recognition;
    roles.tensors.resize(pruned.dump().tensors.size());  // and positions
    Asking asking(pruned, roles, {scratch.file("q.safetensors"), 0, names});
    double furthest = 0;
    for (const auto& [layer, place] : asking.layers()) {
      const std::vector<float> got = attend(asking, layer, {}).data;
      for (std::size_t i = 0; i < kHeads * kGroup * kTokens; ++i) {
        const std::size_t j = i / kTokens, head = j / kGroup;
        std::vector<bool> stays(kTokens);
        for (const std::uint64_t token : kept.of(layer.second, layer.first, head)) stays[token] = true;
        const std::vector<float> q = s.query.head(layer.first, layer.second, j);
        const std::vector<double> want =
            direct_output(q.data() + i % kTokens * kDim, i % kTokens, s.key.head(layer.first, layer.second, head),
                          s.value.head(layer.first, layer.second, head), stays);
        for (std::size_t d = 0; d < kDim; ++d) furthest = std::max(furthest, std::fabs(want[d] - got[i * kDim + d]));
      }
    }
    CHECK(furthest < 4e-6);
  }
}

TEST_CASE("attention outputs: a long layer comes in pieces") {
  const std::size_t tokens = 20000, dims = 2;
  Dump dump;
  Recognition roles;
  for (const Role role : {Role::key, Role::value, Role::query}) {
    dump.tensors.push_back({std::string(role_name(role)), DType::f32, {role == Role::query ? 3 : tokens, dims}});
    roles.tensors.push_back({role, 0, Axes("TD"), ""});
  }
  MemoryReader reader(dump);
  Asking asking(reader, roles, {});
  std::uint64_t most = 0, all = 0;
  asking.for_each_piece({0, 0}, true, [&](const Asking::Piece& piece) {
    CHECK(piece.first == all);
    CHECK(piece.values.size() == piece.count * dims);
    most = std::max(most, piece.count);
    all += piece.count;
  });
  CHECK(all == tokens);
  CHECK(most <= 8192);
  const Asked asked = asking.read({0, 0});
  CHECK(asked.positions == std::vector<std::uint64_t>{tokens - 3, tokens - 2, tokens - 1});
}

TEST_CASE("attention outputs: queries that do not fit are refused") {
  const Sides s;
  const auto refusal = [&](const Made& made) -> std::string {
    MemoryReader reader = made.reader();
    try {
      Asking(reader, made.recognition, {});
    } catch (const Error& error) {
      CHECK(error.code() == ErrorCode::invalid_argument);
      return error.what();
    }
    return {};
  };
  CHECK(refusal(separate("HTD")(s.key, s.value, nullptr)).find("no queries") != std::string::npos);
  CHECK(refusal({}).find("no keys and values") != std::string::npos);
  Made rotated = separate("HTD")(s.key, s.value, &s.query);
  rotated.recognition.model.rope.state = Rope::State::pre;
  CHECK(refusal(rotated).find("rope_theta") != std::string::npos);
  Made alone;
  alone.add("k", Role::key, "HTD", s.key);
  alone.add("q", Role::query, "HTD", s.query);
  CHECK(refusal(alone).find("not one tensor of keys and one of values") != std::string::npos);
  Made misfit = separate("HTD")(s.key, s.value, &s.key);
  misfit.recognition.tensors[2].axes = Axes("DHT");  // 6 channels are 2 heads now
  CHECK(refusal(misfit).find("do not fit") != std::string::npos);
}

TEST_CASE("attention outputs: a layer's window hides what is behind it") {
  constexpr std::uint64_t kWindow = 5;
  const Sides s;
  Made made = separate("HTD")(s.key, s.value, &s.query);
  LayerAttention windowed{made.recognition.model.rope, kWindow};
  made.recognition.model.own.emplace(1, windowed);
  MemoryReader reader = made.reader();
  Asking asking(reader, made.recognition, {});
  const KvzPages pages = digest_pages(reader, made.recognition, 4);
  for (const std::uint32_t layer : {0u, 1u}) {
    const AttentionOutputs got = attend(asking, {layer, 0}, {});
    // Every page that a query sees: the same.
    CHECK(attend(asking, {layer, 0}, {0, 1, &pages, kTokens}).data == got.data);
    CHECK(got.left_out == 0);
    double furthest = 0;
    for (std::size_t j = 0; j < kHeads * kGroup; ++j) {
      const std::vector<float> q = s.query.head(layer, 0, j);
      const std::vector<float> k = s.key.head(layer, 0, j / kGroup), v = s.value.head(layer, 0, j / kGroup);
      for (std::size_t i = 0; i < kTokens; ++i) {
        std::vector<bool> seen(kTokens);
        for (std::size_t t = 0; t < kTokens; ++t) seen[t] = t <= i && (layer == 0 || t + kWindow > i);
        const std::vector<double> want = direct_output(q.data() + i * kDim, i, k, v, seen);
        for (std::size_t d = 0; d < kDim; ++d) {
          furthest = std::max(furthest, std::fabs(want[d] - got.data[(j * kTokens + i) * kDim + d]));
        }
      }
    }
    CHECK(furthest < 4e-6);
    // Of 2 pages, the most that 5 tokens and the query's own lie in, nothing is missing.
    const PageRecall recall = page_recall(asking, {layer, 0}, pages, 8, {});
    REQUIRE(recall.rows[1].pages == 2);
    if (layer == 1) CHECK(recall.rows[1].recall[3] == doctest::Approx(static_cast<double>(recall.queries)));
  }
}
