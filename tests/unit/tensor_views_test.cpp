// SPDX-License-Identifier: Apache-2.0
// Tensors read as something else than the file says, and files that say nothing.
#include "formats/tensor_views.hpp"

#include <doctest/doctest.h>

#include <algorithm>

#include "formats/raw.hpp"
#include "kvzip/error.hpp"
#include "kvzip/layout.hpp"
#include "tests/support/memory_dump.hpp"
#include "tests/support/said.hpp"

namespace kvzip::test {
namespace {

std::unique_ptr<DumpReader> seen(const Dump& dump, const std::string& text) {
  const MapText map = parse_map_text(text);
  REQUIRE(map.view);
  return view(std::make_unique<MemoryReader>(dump), {*map.view});
}

Bytes all_of(DumpReader& reader, std::size_t tensor) {
  const TensorInfo& info = reader.dump().tensors[tensor];
  Bytes out(info.bytes());
  reader.read({tensor, std::vector<std::uint64_t>(info.shape.size(), 0), info.shape}, out);
  return out;
}

}  // namespace

TEST_CASE("a map rule without fields stays what it is") {
  for (const char* text : {"layers.{L}.k=key:BHTD", "a=b=key:HTD", "x=other", "no rule", "x=key:"}) {
    const MapText map = parse_map_text(text);
    CHECK(!map.view);
    CHECK(map.rules == std::vector<std::string>{text});
  }
}

TEST_CASE("keys and values side by side in the last axis are two tensors") {
  Dump dump;
  dump.tensors = {{"attn.kv", DType::f16, {3, 2, 8}}, {"ids", DType::i32, {3}}};
  dump.attributes = {text_attribute("note", "x", "attn.kv"), text_attribute("model", "m")};
  const MapText map = parse_map_text("attn.*=kv:THD:halves:layer=7:name=cache");
  CHECK(map.rules == std::vector<std::string>{"layers.{L}.cache.key=key:THD", "layers.{L}.cache.value=value:THD"});
  auto inner = std::make_unique<MemoryReader>(dump);
  inner->data(0) = pattern(dump.tensors[0], 3);
  const Bytes whole = inner->data(0);
  const auto reader = view(std::move(inner), {*map.view});
  REQUIRE(reader->dump().tensors.size() == 3);
  CHECK(reader->dump().tensors[0].name == "layers.7.cache.key");
  CHECK(reader->dump().tensors[1].name == "layers.7.cache.value");
  CHECK(reader->dump().attributes.size() == 3);  // both halves have the note
  const Bytes keys = all_of(*reader, 0), values = all_of(*reader, 1);
  for (std::size_t row = 0; row < 6; ++row) {
    const ByteView both = ByteView(whole).subspan(row * 16, 16);
    CHECK(std::ranges::equal(ByteView(keys).subspan(row * 8, 8), both.first(8)));
    CHECK(std::ranges::equal(ByteView(values).subspan(row * 8, 8), both.last(8)));
  }
  Bytes some(2 * 2);
  reader->read({1, {2, 1, 1}, {1, 1, 2}}, some);
  CHECK(std::equal(some.begin(), some.end(), values.begin() + 5 * 8 + 2));
  MemoryWriter writer(reader->dump());
  transcode(*reader, writer, 1);
  CHECK(writer.data(1) == values);
}

TEST_CASE("bits are taken for another type, narrower ones several at a time") {
  Dump dump;
  dump.tensors = {{"k", DType::u16, {2, 3, 4}}, {"v", DType::u8, {2, 3, 8}}, {"s", DType::i16, {}}};
  auto inner = std::make_unique<MemoryReader>(dump);
  for (std::size_t t = 0; t < 3; ++t) inner->data(t) = pattern(dump.tensors[t], t);
  const Bytes bytes = inner->data(1);
  const auto reader = view(
      std::move(inner), {*parse_map_text("k=key:HTD:dtype=bf16").view, *parse_map_text("v=value:HTD:dtype=BF16").view,
                         *parse_map_text("?=other:dtype=f16:name=positions").view});
  const std::vector<std::uint64_t> shape{2, 3, 4};
  CHECK(reader->dump().tensors[1].shape == shape);
  CHECK(reader->dump().tensors[1].dtype == DType::bf16);
  CHECK(all_of(*reader, 1) == bytes);
  Bytes some(2 * 2);
  reader->read({1, {1, 2, 1}, {1, 1, 2}}, some);
  CHECK(std::equal(some.begin(), some.end(), bytes.begin() + (1 * 3 + 2) * 8 + 2));
}

TEST_CASE("views that do not fit, and fields that are none") {
  Dump dump;
  dump.tensors = {{"a", DType::u8, {2, 3}}, {"b", DType::f16, {2, 3}}};
  CHECK(said_of([&] { seen(dump, "a=key:TD:dtype=bf16"); }).find("tensor 'a' of U8 cannot be BF16") !=
        std::string::npos);
  CHECK(said_of([&] { seen(dump, "b=key:TD:dtype=f32"); }).find("cannot be F32") != std::string::npos);
  CHECK(said_of([&] { seen(dump, "b=key:TD:dtype=f8_e4m3"); }).find("cannot be") != std::string::npos);
  CHECK(said_of([&] { seen(dump, "b=kv:TD:halves"); }).find("no last axis of two halves") != std::string::npos);
  CHECK(said_of([&] { seen(dump, "*=other:name=c"); }).find("two tensors would be called 'c'") != std::string::npos);
  for (const char* text : {"a=key:TD:halves", "a=kv:2TD:halves", "a=key:TD:dtype=int", "a=key:TD:layer=x",
                           "a=key:TD:layer=99999999", "a=key:TD:name=", "a=key:TD:name=*", "a=key:TD:half=1"}) {
    CAPTURE(text);
    CHECK(!said_of([&] { parse_map_text(text); }).empty());
  }
}

TEST_CASE("bare elements are what somebody says of them") {
  const RawLayout layout = parse_raw("kv:2LTHD:bf16:2x3x-x2x4");
  const Bytes file(2 * 3 * 5 * 2 * 4 * 2, std::byte{7});
  const auto reader = open_raw(InputFile(ByteView(file), "page"), layout);
  const std::vector<std::uint64_t> shape{2, 3, 5, 2, 4};
  CHECK(reader->dump().tensors[0].shape == shape);
  const Recognition roles = recognise(reader->dump());
  CHECK(roles.tensors[0].role == Role::pair);
  CHECK(roles.tensors[0].axes == Axes("2LTHD"));
  CHECK(all_of(*reader, 0) == file);
  const auto refuses = [&](std::string_view text) {
    return said_of([&] { open_raw(InputFile(ByteView(file), "page"), parse_raw(text)); });
  };
  CHECK(refuses("key:LTD:f16:5x3x16").empty());
  CHECK(refuses("key:LTD:f16:5x3x17").find("take 510 bytes, and it has 480") != std::string::npos);
  CHECK(refuses("key:LTD:f16:-x7x16").find("or a multiple") != std::string::npos);
  for (const char* text : {"", "kv", "kv:2LTHD:bf16", "other:TD:f16:1x1", "query:TD:f16:1x1", "key:TX:f16:1x1",
                           "key:TD:i8:1x1", "key:TD:f16:1", "key:TD:f16:-x-", "key:TD:f16:0x4", "key:TD:f16:1xax",
                           "kv:TD:f16:1x1", "key:2TD:f16:2x1x1", "kv:2TD:f16:3x1x1", "kv:2TD:f16:-x1x1",
                           "key:TD:f16:4294967296x4294967296", "key:TD:f16:18446744073709551615x-"}) {
    CAPTURE(text);
    CHECK(!refuses(text).empty());
  }
}

}  // namespace kvzip::test
