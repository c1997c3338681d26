// SPDX-License-Identifier: Apache-2.0
// The walks over parts and tiles besides transcode(), which has its own tests.
#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <new>
#include <numeric>
#include <thread>
#include <vector>

#include "codec/fail.hpp"
#include "formats/kvz/tile_walk.hpp"
#include "formats/walk.hpp"
#include "tests/contract/sample_dumps.hpp"

using namespace kvzip;
using test::MemoryReader;

namespace {

Dump sample() {
  return {.tensors = {{"a", DType::f16, {2, 50, 8}}, {"b", DType::i64, {50}}}, .attributes = {}};
}

}  // namespace

TEST_CASE("parts: results are merged in order, whatever the threads") {
  for (const unsigned threads : {1u, 2u, 5u}) {
    CAPTURE(threads);
    MemoryReader reader(sample(), 32);
    std::vector<std::uint64_t> merged;
    std::uint64_t done = 0;
    for_each_part(
        reader, [](Part& part) { part.result = part.index * 3 + part.data.at(0).size(); },
        [&](Part& part) {
          const auto result = std::any_cast<std::uint64_t>(part.result);
          CHECK(result == part.index * 3 + part.data.at(0).size());
          merged.push_back(part.index);
        },
        threads, [&](std::uint64_t bytes, std::uint64_t) { done = bytes; });
    std::vector<std::uint64_t> all(reader.part_count());
    std::iota(all.begin(), all.end(), std::uint64_t{0});
    CHECK(merged == all);
    CHECK(done == 1600 + 400);
  }
}

TEST_CASE("parts: a slot is empty in every new part") {
  MemoryReader reader(sample(), 32);
  for_each_part(
      reader, {},
      [](Part& part) {
        CHECK_FALSE(part.result.has_value());
        part.result = 1;
      },
      2);
}

TEST_CASE("parts: the first error in order comes out, and what was before it is merged") {
  for (const unsigned threads : {1u, 2u, 5u}) {
    MemoryReader reader(sample(), 32);
    std::uint64_t merged = 0;
    const auto visit = [](Part& part) {
      if (part.index >= 7) fail(ErrorCode::corrupt, "part {}", part.index);
    };
    try {
      for_each_part(
          reader, visit, [&](Part&) { ++merged; }, threads);
      FAIL("no error");
    } catch (const Error& e) {
      CHECK(std::string(e.what()) == "part 7");
    }
    CHECK(merged == 7);
  }
}

TEST_CASE("parts: where memory runs out, fewer threads go on, and every part is merged once") {
  for (const unsigned together : {0u, 1u, 2u, 3u}) {  // parts at a time that there is memory for
    CAPTURE(together);
    MemoryReader reader(sample(), 32);
    std::atomic<unsigned> now = 0;
    const auto visit = [&](Part& part) {
      const bool room = ++now <= together;
      if (room) std::this_thread::sleep_for(std::chrono::microseconds(100));
      --now;
      if (!room) throw std::bad_alloc();
      part.result = part.index;
    };
    std::vector<std::uint64_t> merged, all(reader.part_count());
    std::iota(all.begin(), all.end(), std::uint64_t{0});
    const auto run = [&] {
      for_each_part(
          reader, visit, [&](Part& part) { merged.push_back(std::any_cast<std::uint64_t>(part.result)); }, 8);
    };
    if (together == 0) {
      CHECK_THROWS_AS(run(), std::bad_alloc);
      CHECK(merged.empty());
    } else {
      run();
      CHECK(merged == all);
    }
  }
}

TEST_CASE("parts: what runs out of memory while it is merged is not merged again") {
  MemoryReader reader(sample(), 32);
  std::uint64_t merged = 0;
  const auto merge = [&](Part&) {
    if (++merged == 5) throw std::bad_alloc();
  };
  CHECK_THROWS_AS(for_each_part(reader, {}, merge, 4), std::bad_alloc);
  CHECK(merged == 5);
}

TEST_CASE("tiles: the frames asked for, in their order, with group, shape and elements") {
  const auto reader = test::sample_reader(test::sample_specs(2, 50));
  const RuleSet rules = RuleSet::parse("key = planes,pack\nvalue = planes,pack", "test");
  const Plan plan = make_plan(reader->dump(), *reader->recognition(), rules, 16);
  const Dump& dump = reader->dump();
  // position_ids, then four groups of ceil(50 / 16) = 4 frames, then the scale.
  REQUIRE(plan.frames == 1 + 4 * 4 + 1);
  const std::vector<std::uint64_t> frames{2, 4, 9, 16, 17, 0};
  for (const unsigned threads : {1u, 2u, 5u}) {
    std::vector<std::uint64_t> seen;
    for_each_tile<Bytes>(
        *reader, plan, frames, [](const PlannedTile& t) { return Bytes(t.elements.begin(), t.elements.end()); },
        [&](const PlannedTile& t, const Bytes& elements) {
          seen.push_back(t.frame);
          CHECK(t.group == plan.group_of(t.frame));
          Part part = plan.part(dump, t.frame);
          for (const Slice& slice : part.slices)
            part.data.push_back(test::gather(dump.tensors[slice.tensor], reader->data(slice.tensor), slice));
          const Buffer<std::byte> tile = gather_tile(plan, dump, part);
          CHECK(std::equal(tile.begin(), tile.end(), elements.begin(), elements.end()));
          if (t.frame == 4) CHECK(t.shape.rows == 50 - 3 * 16);
          if (t.frame == 4) CHECK(t.shape.first_token == 48);
        },
        threads);
    CHECK(seen == frames);
  }
}

TEST_CASE("tiles: a part of another plan is refused") {
  const auto reader = test::sample_reader(test::sample_specs(1, 50));
  const RuleSet rules = RuleSet::parse("key = planes,pack\nvalue = planes,pack", "test");
  const Plan plan = make_plan(reader->dump(), *reader->recognition(), rules, 16);
  Part part = plan.part(reader->dump(), 3);
  part.group = 0;
  CHECK_THROWS_AS(plan.group(part), Error);
  part.group = plan.groups.size();
  CHECK_THROWS_AS(plan.group(part), Error);
}
