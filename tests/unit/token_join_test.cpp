// SPDX-License-Identifier: Apache-2.0
// Joins of dumps made here, whose elements are numbers that say where they
// belong.
#include "formats/token_join.hpp"

#include <doctest/doctest.h>

#include <cstring>
#include <fstream>

#include "formats/hdf5/hdf5.hpp"
#include "tests/contract/sample_dumps.hpp"
#include "tests/support/memory_dump.hpp"
#include "tests/unit/file_support.hpp"
#include "tests/unit/safetensors_text.hpp"

namespace kvzip::test {
namespace {

constexpr std::uint64_t kHeads = 2, kDim = 3;

/// Of tokens [begin, end): head h, token t, channel c of layer 0's keys is 1000
/// h + 10 t + c; positions; a scale.
std::unique_ptr<MemoryReader> chunk(std::int32_t begin, std::int32_t end, const std::vector<Attribute>& more = {}) {
  const auto tokens = static_cast<std::uint64_t>(end - begin);
  Dump dump{.tensors = {{"layers.0.key", DType::f32, {kHeads, tokens, kDim}},
                        {"positions", DType::i32, {tokens}},
                        {"scale", DType::f32, {1}}},
            .attributes = {text_attribute("axes", "HTD")}};
  dump.attributes.insert(dump.attributes.end(), more.begin(), more.end());
  auto reader = std::make_unique<MemoryReader>(std::move(dump), 20);
  std::vector<float> keys;
  std::vector<std::int32_t> positions;
  for (std::uint64_t h = 0; h < kHeads; ++h) {
    for (std::int32_t t = begin; t < end; ++t) {
      if (h == 0) positions.push_back(t);
      for (std::uint64_t c = 0; c < kDim; ++c) {
        keys.push_back(static_cast<float>(1000 * h) + static_cast<float>(10 * t) + static_cast<float>(c));
      }
    }
  }
  const float scale = 2;
  std::memcpy(reader->data(0).data(), keys.data(), keys.size() * 4);
  std::memcpy(reader->data(1).data(), positions.data(), positions.size() * 4);
  std::memcpy(reader->data(2).data(), &scale, 4);
  return reader;
}

std::vector<JoinInput> inputs(std::vector<std::unique_ptr<MemoryReader>> readers) {
  std::vector<JoinInput> out;
  for (auto& reader : readers) out.push_back({fmt::format("part-{}", out.size()), std::move(reader)});
  return out;
}

template <typename... Readers>
std::unique_ptr<DumpReader> joined(bool mix, Readers... readers) {
  std::vector<std::unique_ptr<MemoryReader>> all;
  (all.push_back(std::move(readers)), ...);
  return join_tokens(inputs(std::move(all)), {}, mix);
}

template <typename... Readers>
std::string refusal(Readers... readers) {
  try {
    joined(false, std::move(readers)...);
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::invalid_argument);
    return error.what();
  }
  return {};
}

}  // namespace

TEST_CASE(
    "chunks of unlike lengths are one dump, in whole and in any piece "
    "across their ends") {
  const auto reader = joined(false, chunk(0, 4), chunk(4, 5), chunk(5, 11));
  const auto whole = chunk(0, 11);
  CHECK(reader->dump().tensors == whole->dump().tensors);
  CHECK(reader->dump().attributes == whole->dump().attributes);
  CHECK(values_of(*reader) == values_of(*whole));
  for (std::uint64_t first = 0; first < 11; ++first) {
    for (std::uint64_t count = 1; first + count <= 11; ++count) {
      const Slice slice{0, {0, first, 1}, {2, count, 2}};
      std::vector<float> out(slice.elements());
      reader->read(slice, std::as_writable_bytes(std::span(out)));
      // By hand: the last is head 1, the last token, channel 2.
      CHECK(out.front() == static_cast<float>(10 * first + 1));
      CHECK(out.back() == static_cast<float>(1000 + 10 * (first + count - 1) + 2));
      Bytes expected(out.size() * 4);
      whole->read(slice, expected);
      CHECK(std::memcmp(expected.data(), out.data(), expected.size()) == 0);
    }
  }
}

TEST_CASE(
    "chunks that do not follow each other or are not alike are refused "
    "by name") {
  const auto at = [](const char* position) { return std::vector{text_attribute("first_position", position)}; };
  CHECK(joined(false, chunk(0, 4, at("100")), chunk(4, 8, at("104")))->dump().text("first_position") == "100");
  CHECK(refusal(chunk(0, 4, at("100")), chunk(4, 8, at("108"))) ==
        "part-1: its first token is at position 108, and the one before ends "
        "at 104");
  CHECK(joined(true, chunk(0, 4, at("100")), chunk(4, 8, at("108")))->dump().text("first_position") == "100");

  const auto of = [](const char* model) { return std::vector{text_attribute("model", model)}; };
  CHECK(refusal(chunk(0, 4, of("a")), chunk(4, 8, of("b"))) ==
        "part-1: attribute 'model' is not the same as in files before it");
  CHECK(joined(true, chunk(0, 4, of("a")), chunk(4, 8, of("b")))->dump().text("model") == "a");
  // What one does not say is not asked for, and is that of the others.
  CHECK(joined(false, chunk(0, 4, of("a")), chunk(4, 8))->dump().text("model") == "a");
  CHECK(joined(false, chunk(0, 4), chunk(4, 8, of("a")))->dump().text("model") == "a");
  CHECK(refusal(chunk(0, 4), chunk(4, 8, of("a")), chunk(8, 9, of("b"))).starts_with("part-2: attribute 'model'"));
  CHECK(joined(false, chunk(0, 4), chunk(4, 8, at("104")))->dump().text("first_position").empty());
  CHECK(joined(false, chunk(0, 4, at("100")), chunk(4, 8))->dump().text("first_position") == "100");
  // Chunks of HDF5 follow the lengths of its datasets.
  const auto lies = [](const char* said) {
    return std::vector{text_attribute(std::string(kHdf5Storage), said, "layers.0.key")};
  };
  CHECK(joined(false, chunk(0, 4, lies("chunks=1,4,3")), chunk(4, 6, lies("chunks=1,2,3")))->dump().attributes.back() ==
        lies("chunks=1,4,3")[0]);
  // Hashes of chunks differ, and say nothing of all together.
  const auto hash = [](const char* text) { return std::vector{text_attribute("chunk_hash", text)}; };
  CHECK(joined(false, chunk(0, 4, hash("x")), chunk(4, 8, hash("y")))->dump().text("chunk_hash").empty());

  auto other = chunk(4, 8);
  other->data(2)[0] ^= std::byte{1};
  CHECK(refusal(chunk(0, 4), std::move(other)).find("tensor 'scale' has no axis of tokens") != std::string::npos);
  Dump changed = chunk(4, 8)->dump();
  changed.tensors[0].shape[2] = 4;
  CHECK(refusal(chunk(0, 4), std::make_unique<MemoryReader>(changed)) ==
        "part-1: type or extents of 'layers.0.key' are not those that it has "
        "in part-0");
  changed = chunk(4, 8)->dump();
  changed.tensors[0].dtype = DType::f16;
  CHECK(refusal(chunk(0, 4), std::make_unique<MemoryReader>(changed)).find("type or extents") != std::string::npos);
  changed = chunk(4, 8)->dump();
  changed.tensors.pop_back();
  CHECK(refusal(chunk(0, 4), std::make_unique<MemoryReader>(changed)) == "part-1: it has 2 tensors, and part-0 has 3");
  changed = chunk(4, 8)->dump();
  changed.tensors[2].name = "other";
  CHECK(refusal(chunk(0, 4), std::make_unique<MemoryReader>(changed)) == "part-1: it has no tensor 'scale'");
  changed = chunk(4, 8)->dump();
  changed.tensors[1].shape[0] = 3;
  CHECK(refusal(chunk(0, 4), std::make_unique<MemoryReader>(changed)).find("has an entry for each token") !=
        std::string::npos);
}

TEST_CASE(
    "chunks whose lengths together are more than 64 bits can count are "
    "refused") {
  const auto huge = [] {
    // Elements of a hostile header: they are never read.
    return std::make_unique<MemoryReader>(
        Dump{.tensors = {{"layers.0.key", DType::f16, {0, std::uint64_t{1} << 63, 1}}},
             .attributes = {text_attribute("axes", "HTD")}});
  };
  std::vector<std::unique_ptr<MemoryReader>> all;
  for (int i = 0; i < 3; ++i) all.push_back(huge());
  try {
    join_tokens(inputs(std::move(all)));
    FAIL_CHECK("taken");
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::limit);
    CHECK(error.file() == "part-1");
  }
}

TEST_CASE("a chunk that was cut in the middle of its elements is an error that names it") {
  const std::string header =
      R"({"layers.0.key":{"dtype":"F16","shape":[2,4,2],"data_offsets":[0,32]},"__metadata__":{"axes":"HTD"}})";
  const ScratchDirectory scratch;
  const auto file = [&](const char* name, std::size_t bytes) {
    std::string path = scratch.file(name);
    std::ofstream(path, std::ios::binary) << file_text(header, bytes);
    return path;
  };
  const std::string whole = file("a.safetensors", 32), cut = file("b.safetensors", 17);
  // What its header says is not there.
  CHECK(code_of([&] { open_reader(cut); }) == ErrorCode::truncated);
  // It becomes short between opening and reading.
  const std::string shrunk = file("c.safetensors", 32);
  std::vector<JoinInput> both;
  both.push_back({whole, open_reader(whole)});
  both.push_back({shrunk, open_reader(shrunk)});
  const auto reader = join_tokens(std::move(both));
  REQUIRE(::truncate(shrunk.c_str(), static_cast<off_t>(InputFile(shrunk).size() - 15)) == 0);
  Bytes first(2 * 4 * 2 * 2), across(2 * 2 * 2 * 2);
  reader->read({0, {0, 0, 0}, {2, 4, 2}}, first);
  for (std::size_t i = 0; i < first.size(); ++i) CHECK(first[i] == static_cast<std::byte>(i * 7 + 1));
  try {
    reader->read({0, {0, 3, 0}, {2, 2, 2}}, across);
    FAIL_CHECK("read what is not there");
  } catch (const Error& error) {
    CHECK(error.file().find("c.safetensors") != std::string::npos);
  }
}

TEST_CASE("names of chunks give their order by the one number in which they differ") {
  using Paths = std::vector<std::string>;
  CHECK(in_order_of_names({"d/p_10.bin", "d/p_9.bin", "d/p_11.bin"}) == Paths{"d/p_9.bin", "d/p_10.bin", "d/p_11.bin"});
  CHECK(in_order_of_names({"m2_0512", "m2_0256", "m2_0"}) == Paths{"m2_0", "m2_0256", "m2_0512"});
  for (const Paths& paths :
       {Paths{"p_1", "p_2", "p_4"}, Paths{"a_1", "b_2"}, Paths{"1_1", "2_2"}, Paths{"9f3e", "01bc"}}) {
    CAPTURE(paths[0]);
    CHECK(code_of([&] { in_order_of_names(paths); }) == ErrorCode::invalid_argument);
  }
}

}  // namespace kvzip::test
