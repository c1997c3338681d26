// SPDX-License-Identifier: Apache-2.0
// How many containers one file has one after the other, and how many are opened for one, each limit at its edge.
#include <doctest/doctest.h>

#include <filesystem>

#include "codec/limits.hpp"
#include "formats/kvz/kvz_segments.hpp"
#include "formats/kvz/kvz_source.hpp"
#include "kvzip/container.hpp"
#include "kvzip/error.hpp"
#include "src/cli/prefix_plan.hpp"
#include "tests/contract/sample_dumps.hpp"
#include "tests/support/container_parts.hpp"
#include "tests/unit/scratch_directory.hpp"

namespace kvzip::test {
namespace {

std::string said_of(auto&& action) {
  try {
    action();
  } catch (const Error& e) {
    return e.what();
  }
  return {};
}

/// Containers of an end record alone, each appended to the one before.
Bytes appended(std::size_t containers) {
  const auto end = make_record_header({record_type(RecordType::end), 0, 0, 0, 0});
  ByteWriter out;
  std::optional<std::uint64_t> before;
  for (std::size_t i = 0; i < containers; ++i) {
    out.put_bytes(make_prelude({}));
    out.put_bytes(end);
    out.put(hash64({}));
    const Footer footer = make_footer({0, kPreludeBytes + kRecordOverhead + kFooterBytes, before});
    out.put_bytes(footer);
    before = hash64(footer);
  }
  return std::move(out.bytes());
}

/// So many keys of four channels, each with the number of its token; nothing else can be read of them.
class Keys final : public MemoryReader {
 public:
  explicit Keys(std::uint64_t tokens, bool readable = true)
      : MemoryReader({.tensors = {{"k", DType::f16, {1, tokens, 4}}}, .attributes = {}}, 1 << 16), readable_(readable) {
    for (std::size_t i = 0; i < data(0).size(); ++i) data(0)[i] = std::byte(i / 8);
    stated.emplace();
    stated->tensors = {{Role::key, 0, Axes("HTD"), "test"}};
    stated->model.layers = 1;
    stated->recognised = 1;
  }
  void fetch(Part& part) override {
    require_readable();
    MemoryReader::fetch(part);
  }
  void read(const Slice& slice, std::span<std::byte> out) override {
    require_readable();
    MemoryReader::read(slice, out);
  }

 private:
  void require_readable() const {
    if (!readable_) fail(ErrorCode::io, "it was to be read");
  }
  bool readable_;
};

}  // namespace

TEST_CASE("chain limits: containers that were appended to one file") {
  const std::string refusal = fmt::format("more than {} containers in a file", limits::kSegments);
  Bytes bytes = appended(limits::kSegments + 1);
  const std::size_t whole = bytes.size() / (limits::kSegments + 1) * limits::kSegments;
  const auto found = [&](std::size_t size) { return find_segments(InputFile(ByteView(bytes).first(size), "file")); };
  const Segments most = found(whole);
  CHECK(most.all.size() == limits::kSegments);
  CHECK(most.end == whole);
  CHECK(said_of([&] { found(bytes.size()); }).find(refusal) != std::string::npos);
  // The last one cut, so that they are found along their records: what is left of one more is not counted.
  const Segments cut = found(bytes.size() - 1);
  CHECK(cut.all.size() == limits::kSegments);
  CHECK(cut.rest == Segments::Rest::cut);
  CHECK(found(whole - 1).all.size() == limits::kSegments - 1);
  // For one that is to be appended.
  CHECK(said_of([&] { check_room(found(whole - 1), 0); }).empty());
  CHECK(said_of([&] { check_room(most, 0); }) == refusal);
}

TEST_CASE("chain limits: the order of tokens makes no more containers than a file may have") {
  const ScratchDirectory scratch;
  const auto compressed_in_order = [&](std::uint64_t tokens) {
    Keys keys(tokens, false);
    return said_of([&] {
      compress_by_tokens(scratch.file("a.kvz"), keys, *keys.stated, options_of("key = planes,pack", 1), 1, 1, true, {});
    });
  };
  CHECK(compressed_in_order(limits::kSegments).find("it was to be read") != std::string::npos);
  CHECK(compressed_in_order(limits::kSegments + 1).find(fmt::format("more than {} containers", limits::kSegments)) !=
        std::string::npos);
}

TEST_CASE("chain limits: containers that begin with tokens of each other") {
  const ScratchDirectory scratch;
  std::string path;
  for (unsigned bases = 0; bases <= limits::kBases + 1; ++bases) {
    Keys token(1);
    std::fill(token.data(0).begin(), token.data(0).end(), std::byte(bases));
    KvzOptions options = options_of("key = planes,pack", 1);
    if (bases > 0) options.base = base_of(path, bases);
    token.stated->model.rope.first_position = bases;
    const Bytes bytes = compressed(token, options);
    path = scratch.file(fmt::format("{}.kvz", bases), {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
    if (bases == limits::kBases) CHECK(values_of(*open_kvz(path)).at(0) == Keys(bases + 1).data(0));
  }
  const std::string said = said_of([&] { open_kvz(path); });
  const std::string refusal = fmt::format("more than {} containers begin with tokens of each other", limits::kBases);
  CHECK(said.find(refusal) != std::string::npos);
}

TEST_CASE("chain limits: dumps that are planned to begin with tokens of each other") {
  const ScratchDirectory scratch;
  std::vector<tool::BatchFile> files;
  for (unsigned i = 0; i <= limits::kBases + 1; ++i) {  // each has a token more than the one before
    files.push_back({.in = scratch.file(fmt::format("{}", i), ""), .out = scratch.file(fmt::format("{}.kvz", i))});
  }
  const auto open = [](const std::string& in) {
    auto keys = std::make_unique<Keys>(std::stoul(std::filesystem::path(in).filename()) + 1);
    Recognition roles = *keys->stated;
    return std::pair<std::unique_ptr<DumpReader>, Recognition>(std::move(keys), std::move(roles));
  };
  const std::vector<tool::PrefixPlan> plans = tool::plan_prefixes({}, files, open, 1);
  REQUIRE(plans.size() == files.size());
  CHECK_FALSE(plans[0].base);
  for (unsigned i = 1; i <= limits::kBases; ++i) {
    CHECK(plans[i].base == i - 1);
    CHECK(plans[i].depth == i);
  }
  // The one with most tokens in common has as many before it as there may be; so it is the one before that.
  CHECK(plans[limits::kBases + 1].base == limits::kBases - 1);
  CHECK(plans[limits::kBases + 1].tokens == limits::kBases);
  CHECK(plans[limits::kBases + 1].depth == limits::kBases);
}

}  // namespace kvzip::test
