// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <limits>

#include "formats/query_set.hpp"
#include "src/measure/fidelity.hpp"
#include "tests/support/cache_layouts.hpp"
#include "tests/support/direct_attention.hpp"
#include "tests/unit/scratch_directory.hpp"

using namespace kvzip;
using namespace kvzip::test;
using namespace kvzip::tool;

namespace {

DirectHead direct_head(const Sides& s, std::size_t l, std::size_t b, std::size_t h, std::size_t split,
                       std::uint64_t first = 0) {
  DirectHead out;
  out.dim = out.value_dim = kDim;
  out.keys = s.key.head(l, b, h);
  out.values = s.value.head(l, b, h);
  out.decoded_keys = s.decoded_key.head(l, b, h);
  out.decoded_values = s.decoded_value.head(l, b, h);
  const auto end = static_cast<std::ptrdiff_t>(split * kDim);
  std::copy(out.keys.begin() + end, out.keys.end(), out.decoded_keys.begin() + end);
  std::copy(out.values.begin() + end, out.values.end(), out.decoded_values.begin() + end);
  for (std::size_t t = 0; t < kTokens; ++t) out.token_positions.push_back(first + t);
  return out;
}

/// A key-value head and its group: all queries from token `split` on.
AttentionError direct_group(const Sides& s, std::size_t l, std::size_t b, std::size_t h, std::size_t split) {
  AttentionError sum;
  std::vector<std::uint64_t> positions;
  for (std::size_t t = split; t < kTokens; ++t) positions.push_back(t);
  for (std::size_t j = h * kGroup; j < (h + 1) * kGroup; ++j) {
    const std::vector<float> q = s.query.head(l, b, j);
    sum.merge(direct(direct_head(s, l, b, h, split), std::span(q).subspan(split * kDim), positions));
  }
  return sum;
}

void check_same(const AttentionError& got, const AttentionError& want, double tolerance = 1e-5) {
  CHECK(got.queries == want.queries);
  CHECK(got.logits_nrmse() == doctest::Approx(want.logits_nrmse()).epsilon(tolerance));
  CHECK(got.kl() == doctest::Approx(want.kl()).epsilon(tolerance));
  CHECK(got.top_overlap() == doctest::Approx(want.top_overlap()).epsilon(tolerance));
  CHECK(got.output_nrmse() == doctest::Approx(want.output_nrmse()).epsilon(tolerance));
  CHECK(got.output_cosine() == doctest::Approx(want.output_cosine()).epsilon(tolerance));
}

FidelityOptions all_queries() {
  FidelityOptions out;
  out.queries_per_head = 0;
  out.proxies = false;
  return out;
}

Fidelity measured(const Made& original, const Made& decoded, const FidelityOptions& options) {
  MemoryReader a = original.reader(), b = decoded.reader();
  return FidelityMeter(a, original.recognition, options).measure(b);
}

std::string refusal(const Made& original, const FidelityOptions& options) {
  MemoryReader a = original.reader();
  try {
    FidelityMeter(a, original.recognition, options);
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::invalid_argument);
    return error.what();
  }
  return {};
}

/// Turns every pair (i, i + dims/2) by position * theta^(-2i/dims).
Cache rotated(Cache c, double theta, std::uint64_t first) {
  for (std::size_t i = 0; i < c.x.size(); i += kDim) {
    const auto position = static_cast<double>(first + i / kDim % c.tokens);
    for (std::size_t p = 0; p < kDim / 2; ++p) {
      const double angle = position * std::pow(theta, -2.0 * static_cast<double>(p) / kDim);
      const double a = c.x[i + p], b = c.x[i + p + kDim / 2];
      c.x[i + p] = static_cast<float>(a * std::cos(angle) - b * std::sin(angle));
      c.x[i + p + kDim / 2] = static_cast<float>(b * std::cos(angle) + a * std::sin(angle));
    }
  }
  return c;
}

}  // namespace

TEST_CASE("fidelity: every layout gives each head's own measures") {
  const Sides s;
  struct Case {
    const char* name;
    Layout layout;
    bool batched;
  };
  for (const Case& c :
       {Case{"HTD", separate("HTD"), false}, Case{"THD", separate("THD"), false}, Case{"TC", separate("TC"), false},
        Case{"DHT", separate("DHT"), false}, Case{"BHTD", separate("BHTD"), true},
        Case{"LBTC", separate("LBTC", true), true}, Case{"LHTD", separate("LHTD", true), false},
        Case{"2LTHD", paired("2LTHD", "LTHD"), false}, Case{"L2BHTD", paired("L2BHTD", "BLHTD"), true}}) {
    CAPTURE(c.name);
    const Made original = c.layout(s.key, s.value, &s.query);
    Made decoded = c.layout(s.decoded_key, s.decoded_value, nullptr);
    decoded.reverse();
    const Fidelity got = measured(original, decoded, all_queries());
    CHECK(got.tokens == kTokens);
    CHECK(got.split == 112);
    CHECK(got.queries == kTokens - 112);
    REQUIRE(got.layers.size() == kLayers * (c.batched ? kBatch : 1));
    double kl = 0, output = 0;
    std::size_t heads = 0;
    for (const LayerFidelity& layer : got.layers) {
      REQUIRE(layer.heads.size() == kHeads);
      for (std::size_t h = 0; h < kHeads; ++h, ++heads) {
        REQUIRE(layer.heads[h].attention);
        CHECK_FALSE(layer.heads[h].proxy);
        const AttentionError want = direct_group(s, layer.layer, layer.batch, h, 112);
        check_same(*layer.heads[h].attention, want);
        Distortion key;
        key.add(s.key.head(layer.layer, layer.batch, h), s.decoded_key.head(layer.layer, layer.batch, h), kDim);
        CHECK(layer.heads[h].key.rmse() == doctest::Approx(key.rmse()).epsilon(1e-12));
        CHECK(layer.heads[h].value.values() == kTokens * kDim);
        kl += want.kl();
        output += want.output_nrmse() * want.output_nrmse();
      }
    }
    const auto n = static_cast<double>(heads);
    CHECK(got.all.attention->kl == doctest::Approx(kl / n).epsilon(1e-5));
    CHECK(got.all.attention->output_nrmse == doctest::Approx(std::sqrt(output / n)).epsilon(1e-5));
    CHECK_FALSE(got.all.proxy);
    REQUIRE(got.worst() != nullptr);
    for (const LayerFidelity& layer : got.layers) {
      CHECK(layer.all.attention->output_nrmse <= got.worst()->all.attention->output_nrmse);
    }
  }
}

TEST_CASE("fidelity: split, roles that stay, threads") {
  const Sides s;
  const Made original = separate("HTD")(s.key, s.value, &s.query);
  const Made decoded = separate("HTD")(s.decoded_key, s.decoded_value, nullptr);
  FidelityOptions options = all_queries();
  options.split = 31;
  options.threads = 2;
  const Fidelity got = measured(original, decoded, options);
  check_same(*got.layers[1].heads[1].attention, direct_group(s, 1, 0, 1, 31));
  options.threads = 1;
  CHECK(measured(original, decoded, options).all.attention->kl == got.all.attention->kl);

  options.decoded_keys = false;
  const Fidelity values = measured(original, decoded, options);
  CHECK(values.all.attention->kl == 0);
  CHECK(values.all.attention->output_nrmse > 0);
  CHECK(values.all.key->nrmse == 0);
  options.decoded_values = false;
  CHECK(measured(original, decoded, options).all.attention->output_nrmse == 0);
  CHECK(measured(original, decoded, options).all.attention->output_cosine == 1);

  options.split = kTokens + 1;
  CHECK(refusal(original, options).find("--split 151") != std::string::npos);
  options.split = kTokens;
  CHECK(refusal(original, options).find("position 150") != std::string::npos);
}

TEST_CASE("fidelity: what is not finite counts apart, and nothing measured is no figure") {
  Sides s;
  const Made original = separate("HTD")(s.key, s.value, &s.query);
  s.decoded_key.x[s.key.at(0, 0, 1, 7, 3)] = std::numeric_limits<float>::quiet_NaN();
  const Made one = separate("HTD")(s.decoded_key, s.decoded_value, nullptr);
  const Fidelity got = measured(original, one, all_queries());
  check_same(*got.layers[0].heads[1].attention, direct_group(s, 0, 0, 1, 112));
  CHECK(got.layers[0].all.key->nonfinite_mismatches == 1);
  CHECK(got.note.find(fmt::format("{} pairs", kGroup * 38)) != std::string::npos);

  FidelityOptions options = all_queries();
  options.split = kTokens - 1;
  Cache never = s.key;
  for (float& x : never.x) x = std::numeric_limits<float>::infinity();
  const Made all = separate("HTD")(never, s.value, &s.query);
  const Fidelity none = measured(all, all, options);
  CHECK_FALSE(none.all.attention);
  CHECK_FALSE(none.all.key);
}

TEST_CASE("fidelity: queries are spread evenly") {
  CHECK(spread(10, 14, 4) == std::vector<std::uint64_t>{10, 11, 12, 13});
  CHECK(spread(10, 14, 9) == std::vector<std::uint64_t>{10, 11, 12, 13});
  CHECK(spread(10, 14, 0).size() == 4);
  CHECK(spread(0, 100, 1) == std::vector<std::uint64_t>{50});
  CHECK(spread(0, 100, 4) == std::vector<std::uint64_t>{12, 37, 62, 87});
  CHECK(spread(0, 7, 3) == std::vector<std::uint64_t>{1, 3, 5});
  CHECK(spread(5, 5, 3).empty());
  const std::uint64_t huge = std::uint64_t{1} << 62;
  CHECK(spread(0, huge, 2) == std::vector<std::uint64_t>{huge / 4, huge / 4 * 3});
  // The j-th of n is the middle of the j-th of n parts: floor((2j + 1) all / 2n).
  for (const std::uint64_t all : {std::uint64_t{256}, std::uint64_t{1001}, std::uint64_t{77}}) {
    for (const std::uint64_t n : {std::uint64_t{3}, std::uint64_t{64}, std::uint64_t{77}}) {
      const std::vector<std::uint64_t> got = spread(0, all, n);
      for (std::uint64_t j = 0; j < n; ++j) CHECK(got[j] == (2 * j + 1) * all / (2 * n));
    }
  }

  const Sides s;
  const Made original = separate("HTD")(s.key, s.value, &s.query);
  FidelityOptions options = all_queries();
  options.queries_per_head = 5;
  const Fidelity got = measured(original, separate("HTD")(s.decoded_key, s.decoded_value, nullptr), options);
  CHECK(got.queries == 5);
  AttentionError want;
  for (std::size_t j = 0; j < kGroup; ++j) {
    const std::vector<float> all = s.query.head(0, 0, j);
    std::vector<float> q;
    const std::vector<std::uint64_t> tokens = spread(112, kTokens, 5);
    for (const std::uint64_t t : tokens) q.insert(q.end(), all.data() + t * kDim, all.data() + (t + 1) * kDim);
    want.merge(direct(direct_head(s, 0, 0, 0, 112), q, tokens));
  }
  check_same(*got.layers[0].heads[0].attention, want);
}

TEST_CASE("fidelity: keys stored before rotation are measured as the model sees them") {
  const Sides s;
  Sides turned = s;
  for (Cache* c : {&turned.key, &turned.decoded_key, &turned.query}) *c = rotated(*c, 1000, 20);
  Made pre = separate("HTD")(s.key, s.value, &s.query);
  Made post = separate("HTD")(turned.key, turned.value, &turned.query);
  pre.recognition.model.rope = {.state = Rope::State::pre, .theta = 1000, .first_position = 20};
  post.recognition.model.rope = {.state = Rope::State::post, .theta = 1000, .first_position = 20};
  FidelityOptions options = all_queries();
  options.proxies = true;
  const Fidelity a = measured(pre, separate("HTD")(s.decoded_key, s.decoded_value, nullptr), options);
  const Fidelity b = measured(post, separate("HTD")(turned.decoded_key, turned.decoded_value, nullptr), options);
  for (std::size_t h = 0; h < kHeads; ++h) {
    check_same(*a.layers[1].heads[h].attention, *b.layers[1].heads[h].attention, 1e-4);
    check_same(a.layers[1].heads[h].proxy->keys_as_queries, b.layers[1].heads[h].proxy->keys_as_queries, 1e-4);
    CHECK(a.layers[1].heads[h].proxy->pair_nrmse() ==
          doctest::Approx(b.layers[1].heads[h].proxy->pair_nrmse()).epsilon(1e-5));
  }
  pre.recognition.model.rope.theta = 0;
  CHECK(refusal(pre, all_queries()).find("rope_theta") != std::string::npos);
  pre.recognition.model.rope.state = Rope::State::unknown;
  CHECK(measured(pre, pre, all_queries()).note.find("taken as they are") != std::string::npos);
}

TEST_CASE("fidelity: proxies without queries") {
  const Sides s;
  Made original = separate("THD")(s.key, s.value, nullptr);
  const Made decoded = separate("THD")(s.decoded_key, s.decoded_value, nullptr);
  original.recognition.model.rope = {.state = Rope::State::post, .theta = 1000, .dims = 4};
  const Fidelity got = measured(original, decoded, all_queries());
  CHECK_FALSE(got.all.attention);
  CHECK(got.queries == 0);
  REQUIRE(got.all.proxy);
  for (std::size_t l = 0; l < kLayers; ++l) {
    for (std::size_t h = 0; h < kHeads; ++h) {
      const std::vector<float> keys = s.key.head(l, 0, h), wrong = s.decoded_key.head(l, 0, h);
      std::vector<std::uint64_t> positions;
      for (std::size_t t = 112; t < kTokens; ++t) positions.push_back(t);
      const AttentionError want = direct(direct_head(s, l, 0, h, 112), std::span(keys).subspan(112 * kDim), positions);
      check_same(got.layers[l].heads[h].proxy->keys_as_queries, want);
      // Four rotary channels in halves: pairs 0 with 2 and 1 with 3; 4 and 5 stand alone.
      double energy[4] = {}, error[4] = {};
      const std::size_t pair[kDim] = {0, 1, 0, 1, 2, 3};
      for (std::size_t i = 0; i < keys.size(); ++i) {
        energy[pair[i % kDim]] += double{keys[i]} * keys[i];
        error[pair[i % kDim]] += (double{keys[i]} - wrong[i]) * (double{keys[i]} - wrong[i]);
      }
      double up = 0, down = 0;
      for (std::size_t p = 0; p < 4; ++p) up += energy[p] * error[p], down += energy[p] * energy[p];
      CHECK(got.layers[l].heads[h].proxy->pair_nrmse() == doctest::Approx(std::sqrt(up / down)).epsilon(1e-9));
    }
  }
  REQUIRE(got.worst() != nullptr);
}

TEST_CASE("fidelity: other dumps' queries, and a second set") {
  const ScratchDirectory scratch;
  const Sides s;
  const auto write = [&](const std::string& name, const Made& made, const std::vector<Attribute>& attributes) {
    Dump dump = made.dump;
    dump.attributes = attributes;
    std::string path = scratch.file(name);
    MemoryReader reader = made.reader();
    const auto writer = create_writer(path, "safetensors", dump, true);
    transcode(reader, *writer, 1);
    writer->finish();
    return path;
  };
  const auto queries = [&](const Cache& q) {
    Made out;
    for (std::uint32_t l = 0; l < kLayers; ++l)
      out.add(fmt::format("layers.{}.query", l), Role::query, "HTD", q, {}, l);
    return out;
  };
  Made original = separate("HTD")(s.key, s.value, &s.query);
  original.recognition.model.rope.state = Rope::State::post;
  const Made decoded = separate("HTD")(s.decoded_key, s.decoded_value, nullptr);
  const Attribute axes = text_attribute("axes", "HTD"), post = text_attribute("rope", "post");
  const Cache later(kHeads * kGroup, 77);
  const std::string after =
      write("after.safetensors", queries(later), {axes, post, text_attribute("first_position", "150")});
  FidelityOptions options = all_queries();
  options.queries2 = after;
  // One set lies inside the cache, so its last quarter is the original's.
  const Fidelity both = measured(original, decoded, options);
  CHECK(both.split == 112);
  CHECK(both.queries == 38);
  CHECK(both.queries2 == kTokens);
  check_same(*both.layers[0].heads[1].attention, direct_group(s, 0, 0, 1, 112));

  // All queries come after the cache: all of it is decoded.
  options.queries2.clear();
  options.queries = after;
  const Fidelity next = measured(original, decoded, options);
  CHECK(next.split == kTokens);
  CHECK(next.queries_from == after);
  AttentionError want;
  std::vector<std::uint64_t> positions(kTokens);
  for (std::size_t t = 0; t < kTokens; ++t) positions[t] = kTokens + t;
  for (std::size_t j = kGroup; j < 2 * kGroup; ++j) {
    want.merge(direct(direct_head(s, 1, 0, 1, kTokens), later.head(1, 0, j), positions));
  }
  check_same(*next.layers[1].heads[1].attention, want);

  options.queries = write("pre.safetensors", queries(later), {axes, text_attribute("rope", "pre")});
  CHECK(refusal(original, options).find("rope=pre") != std::string::npos);
  options.queries = write("unknown.safetensors", queries(later), {axes});
  CHECK(measured(original, decoded, options).note.find("taken as they are") != std::string::npos);
  options.queries = write("none.safetensors", decoded, {axes});
  CHECK(refusal(original, options).find("recognised as queries") != std::string::npos);
  options.queries = write("heads.safetensors", queries(Cache(3, 7)), {axes, post});
  CHECK(refusal(original, options).find("3 heads") != std::string::npos);
  options.queries = scratch.file("missing.safetensors");
  MemoryReader reader = original.reader();
  CHECK_THROWS_AS(FidelityMeter(reader, original.recognition, options), Error);
}

TEST_CASE("fidelity: layers whose keys and values do not pair up, and none at all") {
  const Sides s;
  Made latent;
  latent.add("kv_c", Role::key, "HTD", s.key);
  latent.add("k_pe", Role::key, "HTD", s.value);
  Made wrong;
  wrong.add("kv_c", Role::key, "HTD", s.decoded_key);
  wrong.add("k_pe", Role::key, "HTD", s.decoded_value);
  const Fidelity got = measured(latent, wrong, all_queries());
  REQUIRE(got.layers.size() == 1);
  CHECK(got.layers[0].heads.size() == 2 * kHeads);
  CHECK_FALSE(got.all.attention);
  CHECK_FALSE(got.all.proxy);
  CHECK_FALSE(got.all.value);
  CHECK(got.all.key->values == 2 * kHeads * kTokens * kDim);
  CHECK(got.note.find("no attention") != std::string::npos);
  CHECK(got.worst() == &got.layers[0]);

  // Queries that have nothing to ask are told of, not blamed.
  const Made keys = [&] {
    Made only;
    for (std::uint32_t l = 0; l < kLayers; ++l) only.add(fmt::format("{}.k", l), Role::key, "HTD", s.key, {}, l);
    for (std::uint32_t l = 0; l < kLayers; ++l) only.add(fmt::format("{}.q", l), Role::query, "HTD", s.query, {}, l);
    return only;
  }();
  try {
    measured(keys, keys, all_queries());
    FAIL("measured");
  } catch (const Error& error) {
    CHECK(std::string_view(error.what()).find("no layer has one tensor of each") != std::string_view::npos);
  }

  Made other;
  other.add("x", Role::other, "", s.key);
  const Fidelity none = measured(other, other, all_queries());
  CHECK(none.layers.empty());
  CHECK(none.worst() == nullptr);

  // The decoded side must have the same tensors.
  const Made original = separate("HTD")(s.key, s.value, nullptr);
  MemoryReader a = original.reader(), b = latent.reader();
  CHECK_THROWS_AS(FidelityMeter(a, original.recognition, all_queries()).measure(b), Error);
}
