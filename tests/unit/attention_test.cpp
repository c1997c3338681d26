// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <limits>

#include "kvzip/error.hpp"
#include "src/measure/attention_meter.hpp"
#include "tests/contract/every_instruction_set.hpp"
#include "tests/support/direct_attention.hpp"

using namespace kvzip;
using namespace kvzip::test;

namespace {

std::vector<std::uint64_t> ascending(std::size_t n, std::uint64_t first, std::uint64_t step = 1) {
  std::vector<std::uint64_t> out(n);
  for (std::size_t i = 0; i < n; ++i) out[i] = first + i * step;
  return out;
}

std::vector<float> noisy(std::vector<float> x, float noise, std::uint64_t seed) {
  const std::vector<float> error = normal(x.size(), seed);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] += noise * error[i];
  return x;
}

DirectHead make_head(std::size_t tokens, std::size_t dim, std::size_t value_dim, float noise, std::uint64_t seed) {
  DirectHead h;
  h.dim = dim;
  h.value_dim = value_dim;
  h.keys = normal(tokens * dim, seed);
  h.values = normal(tokens * value_dim, seed + 1);
  h.decoded_keys = noisy(h.keys, noise, seed + 2);
  h.decoded_values = noisy(h.values, noise, seed + 3);
  h.token_positions = ascending(tokens, 0);
  return h;
}

/// Feeds pieces of at most `piece` tokens.
std::vector<AttentionError> metered(const DirectHead& h, std::uint32_t query_heads, std::span<const float> queries,
                                    std::span<const std::uint64_t> positions, std::size_t piece) {
  AttentionMeter meter({query_heads, static_cast<std::uint32_t>(h.dim), static_cast<std::uint32_t>(h.value_dim),
                        h.scale, static_cast<std::uint32_t>(h.top_k), h.window},
                       queries, positions);
  const std::size_t tokens = h.token_positions.size();
  for (std::size_t t = 0; t < tokens;) {
    std::size_t n = 1;
    while (t + n < tokens && n < piece) ++n;
    const auto part = [&](const std::vector<float>& x, std::size_t dim) {
      return std::span(x).subspan(t * dim, n * dim);
    };
    meter.add(std::span(h.token_positions).subspan(t, n), part(h.keys, h.dim), part(h.values, h.value_dim),
              part(h.decoded_keys, h.dim), part(h.decoded_values, h.value_dim));
    t += n;
  }
  const auto out = meter.finish();
  return {out.begin(), out.end()};
}

void check_close(const AttentionError& got, const AttentionError& want, double tolerance) {
  CHECK(got.queries == want.queries);
  CHECK(got.left_out == want.left_out);
  const auto near = [&](double x) { return doctest::Approx(x).epsilon(tolerance).scale(1e-12); };
  CHECK(got.logit_error == near(want.logit_error));
  CHECK(got.logit_energy == near(want.logit_energy));
  CHECK(got.divergence == near(want.divergence));
  // A difference of outputs that are sums of floats.
  const double output = std::sqrt(want.output_energy);
  CHECK(std::sqrt(got.output_error) ==
        doctest::Approx(std::sqrt(want.output_error)).epsilon(tolerance).scale(0.01 * output));
  CHECK(got.output_energy == near(want.output_energy));
  CHECK(got.cosine == near(want.cosine));
  CHECK(got.overlap == doctest::Approx(want.overlap).epsilon(1e-9));
}

}  // namespace

TEST_CASE("attention: streamed measures are those of the definitions, for all shapes and pieces") {
  struct Case {
    std::size_t tokens, dim, value_dim, queries;
    std::uint64_t first, step;  // of the queries' positions
    float noise;
  };
  for (const Case& c :
       {Case{300, 128, 128, 20, 280, 1, 0.05f}, Case{700, 64, 80, 9, 100, 70, 0.3f}, Case{129, 7, 5, 30, 0, 3, 0.1f},
        Case{5, 16, 16, 3, 4, 10, 0.02f}, Case{256, 33, 1, 8, 256, 1, 1e-3f}, Case{1, 4, 4, 2, 0, 1, 0.5f}}) {
    CAPTURE(c.tokens);
    CAPTURE(c.dim);
    const DirectHead h = make_head(c.tokens, c.dim, c.value_dim, c.noise, c.tokens);
    const std::vector<float> queries = normal(3 * c.queries * c.dim, 99);
    const std::vector<std::uint64_t> positions = ascending(c.queries, c.first, c.step);
    for (const std::size_t piece : {std::size_t{1}, std::size_t{50}, std::size_t{128}, std::size_t{4096}}) {
      CAPTURE(piece);
      const std::vector<AttentionError> got = metered(h, 3, queries, positions, piece);
      REQUIRE(got.size() == 3);
      for (std::size_t head = 0; head < 3; ++head) {
        const std::size_t each = c.queries * c.dim;
        check_close(got[head], direct(h, std::span(queries).subspan(head * each, each), positions), 2e-5);
      }
    }
  }
}

TEST_CASE("attention: of a window only, and what is left out counts within it") {
  for (const std::uint64_t window : {1u, 16u, 100u, 128u, 200u, 299u, 1000u}) {
    CAPTURE(window);
    DirectHead h = make_head(300, 32, 16, 0.1f, 6);
    h.window = window;
    for (const std::size_t t : {0u, 40u, 170u, 290u}) h.keys[t * 32] = std::numeric_limits<float>::infinity();
    const std::vector<float> queries = normal(30 * 32, 9);
    const std::vector<std::uint64_t> positions = ascending(30, 20, 12);
    for (const std::size_t piece : {std::size_t{7}, std::size_t{128}, std::size_t{4096}}) {
      check_close(metered(h, 1, queries, positions, piece)[0], direct(h, queries, positions), 5e-5);
    }
  }
}

TEST_CASE("attention: positions with gaps, a scale, and more tokens wanted than seen") {
  DirectHead h = make_head(400, 32, 32, 0.1f, 5);
  for (std::size_t t = 0; t < 400; ++t) h.token_positions[t] = 1000 + t + (t >= 150 ? 37 : 0) + (t >= 151 ? 500 : 0);
  h.scale = 0.6;
  h.top_k = 333;
  const std::vector<float> queries = normal(6 * 32, 8);
  const std::vector<std::uint64_t> positions{999, 1000, 1149, 1170, 1187, 5000};
  const AttentionError got = metered(h, 1, queries, positions, 64).at(0), want = direct(h, queries, positions);
  CHECK(want.queries == 5);
  check_close(got, want, 2e-5);
}

TEST_CASE("attention: equal sides differ by exactly nothing") {
  DirectHead h = make_head(500, 64, 64, 0, 3);
  const std::vector<float> queries = normal(2 * 40 * 64, 4);
  for (const AttentionError& e : metered(h, 2, queries, ascending(40, 480), 100)) {
    CHECK(e.queries == 40);
    CHECK(e.logits_nrmse() == 0);
    CHECK(e.kl() == 0);
    CHECK(e.top_overlap() == 1);
    CHECK(e.output_nrmse() == 0);
    CHECK(e.output_cosine() == 1);
  }
  // Errors of values alone leave logits and distributions as they are.
  h.decoded_values = noisy(h.values, 0.1f, 6);
  const AttentionError e = metered(h, 1, std::span(queries).first(40 * 64), ascending(40, 480), 100).at(0);
  CHECK(e.logits_nrmse() == 0);
  CHECK(e.kl() == 0);
  CHECK(e.top_overlap() == 1);
  CHECK(e.output_nrmse() > 0.05);
}

TEST_CASE("attention: a small divergence is not lost in large logits") {
  // Every logit is a b + t c: with b = 1000, terms of KL are about 1e3 and KL itself about 1e-7.
  DirectHead h;
  h.dim = 2, h.value_dim = 1;
  h.scale = 1;
  for (std::size_t t = 0; t < 200; ++t) {
    h.keys.insert(h.keys.end(), {1000.0f, static_cast<float>(t % 10)});
    h.decoded_keys.insert(h.decoded_keys.end(), {1000.0f, static_cast<float>(t % 10) + (t % 2 == 0 ? 0x1p-10f : 0.0f)});
    h.values.push_back(static_cast<float>(t));
  }
  h.decoded_values = h.values;
  h.token_positions = ascending(200, 0);
  const std::vector<float> query{1.0f, 1.0f};
  const AttentionError got = metered(h, 1, query, ascending(1, 199), 30).at(0);
  // Half of the probability, nearly, moves by 2^-10: KL = P(even) (-2^-10) + log(1 + P(even) (e^(2^-10) - 1)).
  double even = 0, all = 0;
  for (int i = 0; i < 10; ++i) {
    all += std::exp(i);
    if (i % 2 == 0) even += std::exp(i);
  }
  const double shift = 0x1p-10, p = even / all;
  const double kl = std::log1p(p * std::expm1(shift)) - p * shift;
  CHECK(kl < 1e-6);
  CHECK(got.divergence == doctest::Approx(kl).epsilon(1e-3));
}

TEST_CASE("attention: a shift of all logits changes no distribution") {
  // k' = k + c u with q.u the same for a query whatever the token.
  DirectHead h = make_head(300, 16, 8, 0, 11);
  for (std::size_t i = 0; i < h.keys.size(); i += 16) h.decoded_keys[i] = h.keys[i] + 64;
  std::vector<float> queries = normal(10 * 16, 12);
  const AttentionError got = metered(h, 1, queries, ascending(10, 290), 128).at(0);
  CHECK(got.logits_nrmse() > 1);
  CHECK(got.kl() < 1e-9);
  CHECK(got.output_nrmse() < 1e-4);
}

TEST_CASE("attention: extreme logits") {
  DirectHead h = make_head(260, 16, 8, 0.01f, 21);
  for (float& x : h.keys) x *= 300;
  for (float& x : h.decoded_keys) x *= 300;
  const std::vector<float> queries = normal(10 * 16, 22);
  check_close(metered(h, 1, queries, ascending(10, 250), 128).at(0), direct(h, queries, ascending(10, 250)), 2e-3);

  // One token takes all, and on the other side another one: KL is the difference of the two logits.
  DirectHead two;
  two.dim = two.value_dim = 1;
  two.keys = {500, 0};
  two.decoded_keys = {0, 700};
  two.values = two.decoded_values = {1, -1};
  two.token_positions = {0, 1};
  const std::vector<float> one{1.0f};
  const AttentionError got = metered(two, 1, one, ascending(1, 1), 1).at(0);
  CHECK(got.kl() == doctest::Approx(700));
  CHECK(got.output_cosine() == doctest::Approx(-1));
  CHECK(got.output_nrmse() == doctest::Approx(2));

  // Logits that are no floats: those pairs are left out, and nothing is NaN.
  two.keys = two.decoded_keys = {1e30f, 1};
  const std::vector<float> huge{1e30f};
  const AttentionError most = metered(two, 1, huge, ascending(1, 1), 2).at(0);
  CHECK(most.left_out == 2);
  CHECK(most.queries == 0);
  CHECK(most.kl() == 0);
  CHECK(most.output_cosine() == 1);
}

TEST_CASE("attention: what is not finite is left out on both sides") {
  constexpr float kNaN = std::numeric_limits<float>::quiet_NaN(), kInfinity = std::numeric_limits<float>::infinity();
  DirectHead h = make_head(300, 16, 16, 0.1f, 31);
  h.keys[3 * 16 + 2] = kNaN;
  h.decoded_keys[4 * 16] = kInfinity;
  h.values[200 * 16 + 15] = -kInfinity;
  h.decoded_values[299 * 16] = kNaN;
  std::vector<float> queries = normal(12 * 16, 32);
  queries[5 * 16 + 1] = kNaN;
  const auto positions = ascending(12, 288);
  const AttentionError want = direct(h, queries, positions);
  CHECK(want.queries == 11);
  CHECK(want.left_out == 11 * 3 + 1);
  for (const std::size_t piece : {std::size_t{7}, std::size_t{300}}) {
    check_close(metered(h, 1, queries, positions, piece).at(0), want, 2e-5);
  }
  // All of it.
  std::fill(h.keys.begin(), h.keys.end(), kNaN);
  const AttentionError none = metered(h, 1, queries, positions, 128).at(0);
  CHECK(none.queries == 0);
  CHECK(none.kl() == 0);
}

TEST_CASE("attention: no token, no query, zeros") {
  AttentionMeter nothing({2, 8, 8, 0, 16}, {}, {});
  CHECK(nothing.finish().size() == 2);
  CHECK(nothing.finish()[1].queries == 0);
  const DirectHead h = make_head(10, 8, 8, 0, 41);
  const std::vector<float> zeros(80, 0.0f), query(8, 1.0f);
  AttentionMeter meter({1, 8, 8, 0, 16}, query, ascending(1, 9));
  meter.add(h.token_positions, h.keys, zeros, h.keys, zeros);
  CHECK(meter.finish()[0].output_nrmse() == 0);
  CHECK(meter.finish()[0].output_cosine() == 1);
  AttentionMeter vanished({1, 8, 8, 0, 16}, query, ascending(1, 9));
  vanished.add(h.token_positions, h.keys, zeros, h.keys, h.values);
  CHECK(std::isinf(vanished.finish()[0].output_nrmse()));
  CHECK(vanished.finish()[0].output_cosine() == 0);
}

TEST_CASE("attention: ties in the top tokens go to the earlier one") {
  DirectHead h;
  h.dim = h.value_dim = 1;
  h.top_k = 3;
  h.scale = 1;
  h.keys = {1, 2, 2, 2, 2, 0};
  h.decoded_keys = {1, 2, 2, 2, 3, 0};
  h.values = h.decoded_values = {1, 2, 3, 4, 5, 6};
  h.token_positions = ascending(6, 0);
  const std::vector<float> query{1.0f};
  // Tokens 1, 2, 3 against 1, 2, 4.
  CHECK(metered(h, 1, query, ascending(1, 5), 2).at(0).top_overlap() == doctest::Approx(2.0 / 3));
}

TEST_CASE("attention: what does not belong together is refused") {
  const std::vector<float> some(64, 1.0f);
  const auto positions = ascending(4, 0);
  const std::vector<std::uint64_t> back{3, 2, 1, 0};
  CHECK_THROWS_AS(AttentionMeter({1, 16, 8, 0, 4}, some, back), Error);
  CHECK_THROWS_AS(AttentionMeter({1, 15, 8, 0, 4}, some, positions), Error);
  CHECK_THROWS_AS(AttentionMeter({1, 16, 0, 0, 4}, some, positions), Error);
  CHECK_THROWS_AS(AttentionMeter({1, 16, 8, 0, 0}, some, positions), Error);
  CHECK_THROWS_AS(AttentionMeter({1, 16, 8, -1, 4}, some, positions), Error);
  AttentionMeter meter({1, 16, 16, 0, 4}, some, positions);
  CHECK_THROWS_AS(meter.add(positions, some, some, some, std::span(some).first(48)), Error);
  CHECK_THROWS_AS(meter.add(std::vector<std::uint64_t>{0, 2, 2, 3}, some, some, some, some), Error);
  meter.add(positions, some, some, some, some);
  CHECK_THROWS_AS(meter.add(ascending(4, 3), some, some, some, some), Error);
}

TEST_CASE("attention: every instruction set measures the same") {
  const DirectHead h = make_head(333, 70, 37, 0.2f, 51);
  const std::vector<float> queries = normal(2 * 19 * 70, 52);
  on_every_instruction_set([&] {
    std::vector<double> out;
    for (const AttentionError& e : metered(h, 2, queries, ascending(19, 300, 3), 200)) {
      out.insert(out.end(),
                 {e.logit_error, e.logit_energy, e.divergence, e.overlap, e.output_error, e.output_energy, e.cosine});
    }
    return out;
  });
}
