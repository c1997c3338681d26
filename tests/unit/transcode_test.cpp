// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <numeric>
#include <thread>
#include <vector>

#include "codec/fail.hpp"
#include "kvzip/io.hpp"
#include "tests/support/memory_dump.hpp"

using namespace kvzip;
using test::MemoryReader;
using test::MemoryWriter;

namespace {

Dump sample() {
  return {.tensors = {{"layers.0.key", DType::f16, {2, 50, 8}},
                      {"scalar", DType::f32, {}},
                      {"empty", DType::f32, {0, 4}},
                      {"nibbles", DType::f4, {6, 5}},
                      {"layers.0.value", DType::bf16, {2, 50, 8}},
                      {"ids", DType::i64, {50}}},
          .attributes = {}};
}

std::vector<std::uint64_t> counting(std::uint64_t n) {
  std::vector<std::uint64_t> result(n);
  std::iota(result.begin(), result.end(), 0);
  return result;
}

ErrorCode code_of(const auto& call) {
  try {
    call();
  } catch (const Error& e) {
    return e.code();
  }
  FAIL("no error");
  return ErrorCode::limit;
}

/// Counts the parts between fetch and append.
class CountingReader : public MemoryReader {
 public:
  using MemoryReader::MemoryReader;
  void fetch(Part& part) override {
    most = std::max(most, ++open);
    MemoryReader::fetch(part);
  }
  std::atomic<int> open = 0;
  int most = 0;
};
class CountingWriter : public MemoryWriter {
 public:
  CountingWriter(Dump dump, CountingReader& reader) : MemoryWriter(std::move(dump)), reader_(reader) {}
  void append(Part& part) override {
    MemoryWriter::append(part);
    --reader_.open;
  }

 private:
  CountingReader& reader_;
};

/// Makes early parts slow, so that threads finish out of order.
class UnevenReader : public MemoryReader {
 public:
  using MemoryReader::MemoryReader;
  void expand(Part& part) const override {
    if (part.index % 4 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    MemoryReader::expand(part);
  }
};

}  // namespace

TEST_CASE("everything arrives, in order, whatever the threads") {
  for (const unsigned threads : {0u, 1u, 2u, 5u, 100000u}) {
    for (const std::uint64_t plan_bytes : {0u, 40u, 100000u}) {
      CAPTURE(threads);
      CAPTURE(plan_bytes);
      UnevenReader reader(sample(), 32, 2);
      MemoryWriter writer(sample(), plan_bytes);
      transcode(reader, writer, threads);
      for (std::size_t i = 0; i < sample().tensors.size(); ++i) CHECK(writer.data(i) == reader.data(i));
      CHECK(writer.appended == counting(plan_bytes != 0 ? writer.part_count() : reader.part_count()));
      CHECK_FALSE(writer.finished);
      if (plan_bytes != 0) CHECK(reader.fetched.empty());
    }
  }
}

TEST_CASE("a dump without parts") {
  MemoryReader reader(Dump{});
  MemoryWriter writer(Dump{});
  transcode(reader, writer, 4);
  CHECK(writer.appended.empty());
}

TEST_CASE("progress counts source bytes") {
  for (const unsigned threads : {1u, 3u}) {
    for (const std::uint64_t plan_bytes : {0u, 50u}) {
      MemoryReader reader(sample(), 64);
      MemoryWriter writer(sample(), plan_bytes);
      std::uint64_t last = 0, all = 0, calls = 0;
      transcode(reader, writer, threads, [&](std::uint64_t done, std::uint64_t total) {
        CHECK(done > last);
        last = done;
        all = total;
        ++calls;
      });
      CHECK(all == 1600 + 4 + 15 + 1600 + 400);
      CHECK(last == all);
      CHECK(calls == writer.appended.size());
    }
  }
}

TEST_CASE("the error of the first part in order comes out, unchanged") {
  for (const unsigned threads : {1u, 2u, 8u}) {
    CAPTURE(threads);
    const auto run = [&](auto&& arrange) {
      UnevenReader reader(sample(), 32);
      MemoryWriter writer(sample());
      arrange(reader, writer);
      const ErrorCode code = code_of([&] { transcode(reader, writer, threads); });
      CHECK(writer.appended.size() == 4);
      return code;
    };
    CHECK(run([](auto& reader, auto&) { reader.fail_fetch = 4; }) == ErrorCode::io);
    CHECK(run([](auto& reader, auto& writer) {
            reader.fail_expand = 4;
            writer.fail_prepare = 5;
            reader.fail_fetch = 6;
          }) == ErrorCode::corrupt);
    CHECK(run([](auto&, auto& writer) { writer.fail_prepare = 4; }) == ErrorCode::unsupported);
    CHECK(run([](auto& reader, auto& writer) {
            writer.fail_append = 4;
            reader.fail_expand = 5;
          }) == ErrorCode::io);
  }
  MemoryReader reader(sample());
  MemoryWriter writer(sample());
  reader.fail_expand = 2;
  try {
    transcode(reader, writer, 4);
    FAIL("no error");
  } catch (const Error& e) {
    CHECK(std::string(e.what()) == "expand of part 2");
  }
}

TEST_CASE("an error in progress stops the work") {
  for (const unsigned threads : {1u, 4u}) {
    MemoryReader reader(sample(), 32);
    MemoryWriter writer(sample());
    CHECK_THROWS_AS(
        transcode(reader, writer, threads, [](std::uint64_t, std::uint64_t) { fail(ErrorCode::io, "interrupted"); }),
        Error);
    CHECK(writer.appended.size() == 1);
  }
}

TEST_CASE("parts in flight are bounded") {
  CountingReader reader(sample(), 8);
  CountingWriter writer(sample(), reader);
  transcode(reader, writer, 3);
  CHECK(reader.part_count() > 100);
  CHECK(reader.most <= 6);
}

TEST_CASE("a writer's plan that leaves the dump fails") {
  MemoryReader reader(sample());
  Dump larger = sample();
  larger.tensors[0].shape[1] = 60;
  MemoryWriter writer(larger, 100000);
  CHECK(code_of([&] { transcode(reader, writer, 2); }) == ErrorCode::invalid_argument);
}
