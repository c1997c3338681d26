// SPDX-License-Identifier: Apache-2.0
// Dumps and containers that are no files: memory, and what a program gives them.
#include <doctest/doctest.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <string>

#include "kvzip/container.hpp"
#include "kvzip/error.hpp"
#include "kvzip/io.hpp"
#include "kvzip/source_sink.hpp"
#include "tests/support/memory_dump.hpp"
#include "tests/unit/scratch_directory.hpp"

namespace kvzip {
namespace {

using test::MemoryReader;
using test::ScratchDirectory;

Dump small_dump() {
  return {{{"layers.0.key", DType::f16, {1, 2, 5, 4}}, {"layers.0.value", DType::f16, {1, 2, 5, 4}}}, {}};
}

Bytes content(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string text(std::istreambuf_iterator<char>(file), {});
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

/// Whether a reader gives the elements of MemoryReader(small_dump()).
bool is_whole(DumpReader& reader) {
  if (reader.dump().tensors != small_dump().tensors) return false;
  for (std::size_t t = 0; t < reader.dump().tensors.size(); ++t) {
    const TensorInfo& info = reader.dump().tensors[t];
    Bytes data(info.bytes());
    reader.read({t, std::vector<std::uint64_t>(info.shape.size()), info.shape}, data);
    if (data != test::pattern(info, t)) return false;
  }
  return true;
}

/// Counts what it gives, and refuses from some place on.
class SlowSource final : public Source {
 public:
  SlowSource(const Bytes& bytes, std::uint64_t refuses_from, std::uint64_t& given)
      : bytes_(bytes), refuses_from_(refuses_from), given_(given) {}
  std::uint64_t size() const override { return bytes_.size(); }
  void read_at(std::uint64_t offset, std::span<std::byte> out) const override {
    REQUIRE(offset + out.size() <= bytes_.size());
    if (offset + out.size() > refuses_from_) throw Error(ErrorCode::io, "the line is down");
    std::copy_n(bytes_.begin() + static_cast<std::ptrdiff_t>(offset), out.size(), out.begin());
    given_ += out.size();
  }

 private:
  const Bytes& bytes_;
  std::uint64_t refuses_from_;
  std::uint64_t& given_;
};

class NotingSink final : public Sink {
 public:
  NotingSink(Bytes& out, int& finished, std::size_t room) : out_(out), finished_(finished), room_(room) {}
  void append(ByteView bytes) override {
    CHECK(finished_ == 0);
    if (out_.size() + bytes.size() > room_) throw Error(ErrorCode::io, "the sink is full");
    out_.insert(out_.end(), bytes.begin(), bytes.end());
  }
  void finish() override { ++finished_; }

 private:
  Bytes& out_;
  int& finished_;
  std::size_t room_;
};

void write(DumpWriter& writer) {
  MemoryReader reader(small_dump());
  transcode(reader, writer, 1);
  writer.finish();
}

TEST_CASE("every format: memory and sources read, and sinks get, what files hold") {
  for (const std::string format : {"safetensors", "hdf5"}) {
    CAPTURE(format);
    const ScratchDirectory scratch;
    write(*create_writer(scratch.file("a"), format, small_dump(), false));
    const Bytes file = content(scratch.file("a"));

    Bytes collected;
    int finished = 0;
    const auto writer =
        create_writer(std::make_unique<NotingSink>(collected, finished, file.size()), format, small_dump());
    CHECK(finished == 0);
    write(*writer);
    CHECK(finished == 1);
    CHECK(collected == file);

    CHECK(is_whole(*open_reader(file)));
    std::uint64_t given = 0;
    CHECK(is_whole(*open_reader(std::make_unique<SlowSource>(file, file.size(), given))));
    CHECK(given >= 2 * 40 * 2);  // bytes of the tensors
  }
}

TEST_CASE("containers in memory: the same bytes as in a file, and the same values") {
  const ScratchDirectory scratch;
  const Recognition recognition = recognise(small_dump());
  KvzOptions options;
  options.rules = RuleSet::builtin("lossless");
  write(*create_kvz_writer(scratch.file("a.kvz"), small_dump(), recognition, options, false));
  const Bytes file = content(scratch.file("a.kvz"));
  Bytes memory;
  write(*create_kvz_writer(std::make_unique<MemorySink>(memory), small_dump(), recognition, options));
  CHECK(memory == file);
  CHECK(is_whole(*open_reader(memory)));
  std::uint64_t given = 0;
  const auto container = open_kvz(std::make_unique<SlowSource>(memory, memory.size(), given));
  CHECK(container->summary().file_bytes == file.size());
  CHECK(is_whole(*container));
}

TEST_CASE("sources that fail and sinks that are full are told, and cut memory is truncated") {
  const Recognition recognition = recognise(small_dump());
  KvzOptions options;
  options.rules = RuleSet::builtin("lossless");
  Bytes memory, few;
  write(*create_kvz_writer(std::make_unique<MemorySink>(memory), small_dump(), recognition, options));
  std::uint64_t given = 0;
  CHECK_THROWS_WITH_AS(open_reader(std::make_unique<SlowSource>(memory, 100, given)), "the line is down", Error);
  int finished = 0;
  const auto writer = create_kvz_writer(std::make_unique<NotingSink>(few, finished, memory.size() - 1), small_dump(),
                                        recognition, options);
  CHECK_THROWS_WITH_AS(write(*writer), "the sink is full", Error);
  CHECK(finished == 0);
  for (std::size_t n = 0; n < memory.size(); ++n) CHECK_THROWS_AS(open_reader(ByteView(memory).first(n)), Error);
}

}  // namespace
}  // namespace kvzip
