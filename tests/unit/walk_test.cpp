// SPDX-License-Identifier: Apache-2.0
// The walks over parts and tiles besides transcode(), which has its own tests.
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <new>
#include <numeric>
#include <thread>
#include <vector>

#include "codec/fail.hpp"
#include "formats/kvz/tile_walk.hpp"
#include "formats/walk.hpp"
#include "tests/contract/allocation.hpp"
#include "tests/contract/sample_dumps.hpp"

using namespace kvzip;
using test::MemoryReader;

namespace {

Dump sample() {
  return {.tensors = {{"a", DType::f16, {2, 50, 8}}, {"b", DType::i64, {50}}}, .attributes = {}};
}

constexpr std::uint64_t kParts = 50;

/// A walk over parts of a byte each, which a visit inverts.
struct Walked {
  explicit Walked(bool again) {
    merged.reserve(kParts);
    steps.parts = kParts;
    steps.again = again;
    steps.fetch = [this](Part& part, std::uint64_t index) {
      ++fetches.at(index);
      part.index = index;
      part.data.resize(1);
      part.data[0].assign(1, static_cast<std::byte>(index));
    };
    steps.visit = [](Part& part) { part.data.at(0).at(0) ^= std::byte{0xff}; };
    steps.merge = [this](Part& part) {
      wrong += part.data.at(0).at(0) != static_cast<std::byte>(0xff ^ part.index);
      merged.push_back(part.index);
    };
  }
  Walked(const Walked&) = delete;
  void check(bool again) const {
    std::vector<std::uint64_t> all(kParts);
    std::iota(all.begin(), all.end(), std::uint64_t{0});
    CHECK(merged == all);
    CHECK(wrong == 0);
    for (const int times : fetches) CHECK((again ? times >= 1 : times == 1));
  }

  Walk steps;
  std::vector<std::uint64_t> merged;
  std::vector<int> fetches = std::vector<int>(kParts);
  int wrong = 0;
};

/// The first two copies of it find no memory where that is to be counted.
class CopiedLater {
 public:
  explicit CopiedLater(std::atomic<int>* failed) : failed_(failed) {}
  CopiedLater(const CopiedLater& other) : failed_(other.failed_) {
    if (failed_ == nullptr || *failed_ == 2) return;
    ++*failed_;
    throw std::bad_alloc();
  }

 private:
  std::atomic<int>* failed_;
};

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

TEST_CASE("walk: a part that memory runs out for is visited again as it was fetched, and merged once") {
  struct Case {
    unsigned threads;
    std::vector<std::uint64_t> short_of_memory;  // at the first visit
  };
  for (const Case& c : {Case{2, {5}}, Case{2, {0}}, Case{2, {49}}, Case{8, {5, 20, 33}}, Case{8, {0, 1, 2}}}) {
    for (const bool again : {true, false}) {
      CAPTURE(c.threads);
      CAPTURE(c.short_of_memory.at(0));
      CAPTURE(again);
      Walked walked(again);
      std::vector<std::atomic<int>> visits(kParts);
      walked.steps.visit = [&](Part& part) {
        part.data.at(0).at(0) ^= std::byte{0xff};
        const bool first = ++visits[part.index] == 1;
        if (first && std::ranges::count(c.short_of_memory, part.index) != 0) throw std::bad_alloc();
      };
      walk(walked.steps, c.threads);
      walked.check(again);
      for (const std::uint64_t index : c.short_of_memory) CHECK(visits[index] >= 2);
    }
  }
}

TEST_CASE("walk: what comes once is not lost where memory runs out for its copy") {
  for (const unsigned threads : {2u, 8u}) {
    CAPTURE(threads);
    Walked walked(false);
    std::atomic<int> failed = 0;
    const auto fetch = walked.steps.fetch;
    walked.steps.fetch = [&](Part& part, std::uint64_t index) {
      fetch(part, index);
      part.result.emplace<CopiedLater>(index == 5 ? &failed : nullptr);
    };
    walk(walked.steps, threads);
    walked.check(false);
    CHECK(failed == (threads == 2 ? 1 : 2));  // one thread alone needs no copy
  }
}

TEST_CASE("walk: what is merged and what is put back takes no memory") {
  for (const unsigned threads : {2u, 8u}) {
    CAPTURE(threads);
    Walked walked(true);
    std::atomic<bool> ran_out = false;
    const auto fetch = walked.steps.fetch;
    walked.steps.fetch = [&](Part& part, std::uint64_t index) {
      if (index <= 5) test::fail_allocations(false);
      fetch(part, index);
    };
    walked.steps.visit = [&](Part& part) {
      part.data.at(0).at(0) ^= std::byte{0xff};
      if (part.index != 5 || ran_out.exchange(true)) return;
      test::fail_allocations(true);
      throw std::bad_alloc();
    };
    bool failed = false;
    try {
      walk(walked.steps, threads);
    } catch (const std::bad_alloc&) {
      failed = true;
    }
    test::fail_allocations(false);
    CHECK_FALSE(failed);
    walked.check(true);
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
