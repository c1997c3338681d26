// SPDX-License-Identifier: Apache-2.0
// Schedules worked out by hand from arXiv 2310.07240, section 5.3, and from the rule of its released code.
#include <doctest/doctest.h>

#include "kvzip/error.hpp"
#include "src/load/load_schedule.hpp"
#include "src/load/load_source.hpp"
#include "tests/support/made_up_sweep.hpp"

using namespace kvzip;
using namespace kvzip::tool;

namespace {

constexpr std::uint64_t kMillion = 1000000;

/// Three chunks of 100 tokens at 3, 2 and 1 MB each.
LoadProblem three_chunks(double slo, double recompute) {
  LoadProblem p;
  p.chunks = {{0, 100}, {100, 100}, {200, 100}};
  p.levels = {{"high", 0.01, {3 * kMillion, 3 * kMillion, 3 * kMillion}},
              {"middle", 0.1, {2 * kMillion, 2 * kMillion, 2 * kMillion}},
              {"low", 0.4, {kMillion, kMillion, kMillion}}};
  p.slo = slo;
  p.recompute = recompute;
  return p;
}

/// "h", "m", "l" for levels 0, 1, 2 and "r" for what is recomputed.
std::string choices(const LoadSchedule& schedule) {
  std::string out;
  for (const LoadStep& step : schedule.steps) out += step.level ? "hml"[*step.level] : 'r';
  return out;
}

LoadSchedule paper(const LoadProblem& problem, std::string_view trace = "0 8") {
  return plan_load(problem, BandwidthTrace::parse(trace), LoadPolicy::paper);
}
LoadSchedule split(const LoadProblem& problem, std::string_view trace = "0 8") {
  return plan_load(problem, BandwidthTrace::parse(trace), LoadPolicy::equal_split);
}

constexpr double kNever = 1000;  // seconds to compute a token

}  // namespace

TEST_CASE("plan: bytes arrive by the integral of the bandwidth") {
  const auto trace = BandwidthTrace::parse("# one link\n0 8\n1 16   # faster\n\n3\t4\r\n");
  CHECK(trace.arrival(0, 2.5) == 2.5);
  CHECK(trace.arrival(500000, 0) == doctest::Approx(0.5));
  // 16 Mbit: 8 in the first second, 8 more at 16 a second.
  CHECK(trace.arrival(2 * kMillion, 0) == doctest::Approx(1.5));
  // 4 until 1 s, 12 at 16 a second.
  CHECK(trace.arrival(2 * kMillion, 0.5) == doctest::Approx(1.75));
  // 56 Mbit: 8 + 32 until 3 s, 16 at 4 a second.
  CHECK(trace.arrival(7 * kMillion, 0) == doctest::Approx(7));
  CHECK(trace.arrival(kMillion, 100) == doctest::Approx(102));
  // A second without a link.
  CHECK(BandwidthTrace::parse("0 8\n1 0\n2 8").arrival(2 * kMillion, 0) == doctest::Approx(3));
  CHECK(BandwidthTrace::parse("0 0\n2 8").arrival(kMillion, 0.5) == doctest::Approx(3));
}

TEST_CASE("plan: traces that cannot be are refused") {
  for (const char* text : {"", "# nothing\n", "1 8", "0 8\n0 9", "0 8\n2 3\n1 4", "0 -1", "0 8 9", "0", "0 8x", "0 nan",
                           "0 inf", "x 8", "0 8\n1 0", "0,8", "0 1e308"}) {
    CAPTURE(text);
    CHECK_THROWS_AS(BandwidthTrace::parse(text), Error);
  }
}

TEST_CASE("plan: the paper's policy fits what is left into the time that is left") {
  // 8 Mbit/s is 1 MB/s. Nothing is known at first: the level in the middle, 2 s. Of 6 s 4 are left, two chunks at the
  // middle level take 4 s; then 2 s for 2 s.
  LoadSchedule s = paper(three_chunks(6, kNever));
  CHECK(choices(s) == "mmm");
  CHECK(s.steps[1].estimate == doctest::Approx(8e6));
  CHECK_FALSE(s.steps[0].estimate);
  CHECK(s.last_byte == doctest::Approx(6));
  CHECK(s.met);
  CHECK(s.bytes == 6 * kMillion);
  CHECK(s.error == doctest::Approx(0.1));
  // With a second more, the last chunk has 3 s for the 3 MB of the best level.
  s = paper(three_chunks(7, kNever));
  CHECK(choices(s) == "mmh");
  CHECK(s.error == doctest::Approx((0.1 + 0.1 + 0.01) / 3));
  CHECK(s.met);
  // What is known beforehand decides the first chunk, too.
  LoadProblem known = three_chunks(9, kNever);
  known.initial = 8e6;
  CHECK(choices(paper(known)) == "hhh");
  known.initial = 4e6;  // 9 MB would take 18 s, 6 MB 12 s, 3 MB 6 s; then 8 s for the rest at 1 MB/s: 6 MB
  CHECK(choices(paper(known)) == "lhh");
}

TEST_CASE("plan: the paper's policy takes text first, where computing it fits") {
  // 1 s a chunk: after the first chunk's 2 s, 2 s of computing fit the 4 that are left.
  LoadSchedule s = paper(three_chunks(6, 0.01));
  CHECK(choices(s) == "mrr");
  CHECK(s.ready == doctest::Approx(4));
  CHECK(s.last_byte == doctest::Approx(2));
  CHECK(s.bytes == 2 * kMillion);
  CHECK(s.error == doctest::Approx(0.1 / 3));
  LoadProblem known = three_chunks(6, 0.01);
  known.initial = 8e6;
  s = paper(known);
  CHECK(choices(s) == "rrr");
  CHECK(s.bytes == 0);
  CHECK(s.error == 0);
  CHECK(s.ready == doctest::Approx(3));
  // 2.2 s a chunk: 4.4 s do not fit 4; after another chunk of 2 s neither do 2.2 fit 2.
  CHECK(choices(paper(three_chunks(6, 0.022))) == "mmm");
}

TEST_CASE("plan: an SLO that cannot be met gets the smallest there is") {
  const LoadSchedule s = paper(three_chunks(1, kNever));
  CHECK(choices(s) == "mll");
  CHECK(s.ready == doctest::Approx(4));
  CHECK_FALSE(s.met);
}

TEST_CASE("plan: the estimate follows a link that changes inside a chunk") {
  // 2 MB from 0: 8 Mbit in the first second, the other 8 at 2 Mbit/s: 5 s; measured 16/5 = 3.2 Mbit/s. Of 10 s 5 are
  // left, and 2 MB at 3.2 Mbit/s take 5 s: the lowest level. 1 MB at 2 Mbit/s: 9 s. 1 s is left, nothing fits.
  const LoadSchedule s = paper(three_chunks(10, kNever), "0 8\n1 2\n");
  CHECK(choices(s) == "mll");
  CHECK(s.steps[0].end == doctest::Approx(5));
  CHECK(*s.steps[1].estimate == doctest::Approx(3.2e6));
  CHECK(s.steps[1].end == doctest::Approx(9));
  CHECK(*s.steps[2].estimate == doctest::Approx(2e6));
  CHECK(s.last_byte == doctest::Approx(13));
  CHECK_FALSE(s.met);
}

TEST_CASE("plan: the released code's rule gives each chunk the same time") {
  // A share of 2 s: 2 MB take 2 s, which is not less.
  CHECK(choices(split(three_chunks(6, kNever))) == "lll");
  LoadSchedule s = split(three_chunks(6.3, kNever));
  CHECK(choices(s) == "mmm");
  CHECK(s.met);
  CHECK_FALSE(s.steps[1].estimate);
  // No level fits 0.8 s; text takes 1 s a chunk, and the rule takes it all the same.
  s = split(three_chunks(2.4, 0.01));
  CHECK(choices(s) == "rrr");
  CHECK(s.ready == doctest::Approx(3));
  CHECK_FALSE(s.met);
  // The bandwidth of each chunk is known: 3 MB in 0.75 s at 32 Mbit/s, then 8 Mbit/s for shares of 2.1 s.
  CHECK(choices(split(three_chunks(6.3, kNever), "0 32\n0.75 8")) == "hmm");
}

TEST_CASE("plan: decoding goes on while the next chunk arrives") {
  LoadProblem p = three_chunks(6, kNever);
  p.decode = 0.01;  // 1 s a chunk
  LoadSchedule s = paper(p);
  CHECK(choices(s) == "mmm");
  CHECK(s.steps[0].ready == doctest::Approx(3));
  CHECK(s.steps[1].start == doctest::Approx(2));
  CHECK(s.last_byte == doctest::Approx(6));
  CHECK(s.ready == doctest::Approx(7));
  CHECK_FALSE(s.met);
  p.decode = 0.03;  // 3 s a chunk: each waits for the one before
  CHECK(paper(p).ready == doctest::Approx(2 + 9));
  // What is computed needs the chunks before it decoded.
  p = three_chunks(8, 0.01);
  p.decode = 0.01;
  s = paper(p);
  CHECK(choices(s) == "mrr");
  CHECK(s.steps[1].start == doctest::Approx(3));
  CHECK(s.ready == doctest::Approx(5));
}

TEST_CASE("plan: frames make up chunks only where they end with them") {
  const std::vector<ChunkBytes> frames{{0, 256, 10}, {256, 256, 20}, {512, 88, 5}, {0, 512, 100}, {512, 88, 50}};
  CHECK(chunk_bytes(frames, 600, 512) == std::vector<std::uint64_t>{130, 55});
  CHECK(chunk_bytes(frames, 600, 1024) == std::vector<std::uint64_t>{185});
  CHECK_FALSE(chunk_bytes(frames, 600, 256));
  CHECK_FALSE(chunk_bytes(frames, 599, 512));
  CHECK_FALSE(chunk_bytes({{0, 256, 10}}, 600, 512));                    // the second chunk has nothing
  CHECK_FALSE(chunk_bytes({{~0ull, 256, 10}}, 600, 512));                // outside
  CHECK_FALSE(chunk_bytes({{0, ~0ull, 10}}, 600, 512));                  // outside
  CHECK_FALSE(chunk_bytes({{0, 256, ~0ull}, {256, 256, 1}}, 512, 512));  // more than there can be
  CHECK_THROWS_AS(chunk_bytes({}, std::uint64_t{1} << 60, 1), Error);
}

TEST_CASE("plan: settings of a sweep, on the front or by name") {
  const Sweep sweep = test::made_up_sweep();
  CHECK_THROWS_AS(sweep_levels(sweep, {}, 256), Error);  // two dumps
  const std::string dump = sweep.dumps[0].path;
  const LoadSource source = sweep_levels(sweep, {dump, "attention", {}}, 256);
  std::string names;
  for (const LoadLevel& level : source.levels) names += level.name + " ";
  CHECK(names == "lossless near-lossless gear-4 kivi-4 kvtc-4 kvtc-3 kvtc-2 ");
  CHECK(source.chunks.size() == 2);
  CHECK(source.chunks[1].tokens == 100);
  CHECK(source.levels[0].bytes[0] == sweep.dumps[0].settings[0].file_bytes / 2);
  const LoadSource named = sweep_levels(sweep, {dump, "v-nrmse", {"int4", "int8"}}, 512);
  REQUIRE(named.levels.size() == 2);
  CHECK(named.levels[0].name == "int8");
  CHECK(named.levels[0].error == doctest::Approx(0.011));
  CHECK_THROWS_AS(sweep_levels(sweep, {dump, "", {"nope"}}, 256), Error);
  CHECK_THROWS_AS(sweep_levels(sweep, {"nope", "", {}}, 256), Error);
  CHECK_THROWS_AS(sweep_levels(sweep, {dump, "", {}}, 128), Error);  // frames of 256 tokens
  // A sweep that claims more tokens than chunks can be listed for, one more than the limit and as many as there can be.
  for (const std::uint64_t tokens : {(std::uint64_t{1} << 20) + 1, std::uint64_t{1} << 62, ~std::uint64_t{0}}) {
    Sweep huge = sweep;
    huge.dumps[0].tokens = tokens;
    try {
      sweep_levels(huge, {dump, "", {}}, 1);
      FAIL("taken");
    } catch (const Error& error) {
      CHECK(error.code() == ErrorCode::limit);
    }
  }
}
