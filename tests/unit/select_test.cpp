// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "formats/selection.hpp"
#include "formats/token_windows.hpp"
#include "kvzip/error.hpp"
#include "src/cli/padding.hpp"
#include "tests/support/memory_dump.hpp"

using namespace kvzip;
using test::MemoryReader;
using test::MemoryWriter;
using test::text_attribute;

namespace {

Dump sample() {
  Dump dump;
  for (int layer = 0; layer < 4; ++layer) {
    dump.tensors.push_back({fmt::format("layers/{}/key", layer), DType::f16, {2, 10, 4}});
    dump.tensors.push_back({fmt::format("layers/{}/value", layer), DType::f16, {2, 10, 4}});
    dump.tensors.push_back({fmt::format("layers/{}/query", layer), DType::f16, {4, 10, 4}});
  }
  dump.tensors.push_back({"token_ids", DType::i32, {10}});
  dump.tensors.push_back({"nibbles", DType::f4, {10, 4}});
  dump.attributes = {text_attribute("rope", "post"),
                     text_attribute("n_layers", "4"),
                     text_attribute("first_position", "100"),
                     text_attribute("note", "third", "layers/3/key"),
                     text_attribute("note", "group", "layers/3"),
                     text_attribute("note", "all", "layers"),
                     {"empty_group", "", {}, {}, {}, {}}};
  return dump;
}

struct Selected {
  std::unique_ptr<DumpReader> reader;
  MemoryReader* inner = nullptr;
};

Selected select_from(Dump dump, std::string_view layers, std::string_view tokens, std::string_view roles,
                     std::uint64_t part_bytes = 24, std::size_t slices_per_part = 1) {
  auto inner = std::make_unique<MemoryReader>(std::move(dump), part_bytes, slices_per_part);
  MemoryReader* memory = inner.get();
  const Recognition recognition = recognise(memory->dump());
  return {select_positions(std::move(inner), recognition, parse_selection(layers, tokens, roles)), memory};
}

std::vector<std::string> names(const Dump& dump) {
  std::vector<std::string> result;
  for (const TensorInfo& tensor : dump.tensors) result.push_back(tensor.name);
  return result;
}

/// The tensor through fetch and expand of every part, and through read().
Bytes all_of(DumpReader& reader, std::size_t tensor) {
  MemoryWriter writer(reader.dump());
  transcode(reader, writer, 1);
  Slice whole{tensor, {}, slice_shape(reader.dump().tensors[tensor])};
  whole.start.assign(whole.count.size(), 0);
  Bytes read(test::tensor_bytes(reader.dump().tensors[tensor]));
  reader.read(whole, read);
  CHECK(read == writer.data(tensor));
  return read;
}

std::string error_of(const auto& call) {
  try {
    call();
  } catch (const Error& e) {
    CHECK(e.code() == ErrorCode::invalid_argument);
    return e.what();
  }
  return {};
}

}  // namespace

TEST_CASE("selections as text") {
  CHECK(parse_selection("", "", "").empty());
  CHECK(parse_selection("3", "", "").layers == std::pair{3u, 3u});
  CHECK(parse_selection("0-3", "", "").layers == std::pair{0u, 3u});
  using Range = std::pair<std::uint64_t, std::uint64_t>;
  CHECK(parse_selection("", "0:256", "").tokens == Range{0, 256});
  CHECK(parse_selection("", ":256", "").tokens == Range{0, 256});
  CHECK(parse_selection("", "128:", "").tokens == Range{128, ~std::uint64_t{0}});
  CHECK(parse_selection("", "", "key,value").roles == std::vector{Role::key, Role::value});
  CHECK(parse_selection("", "", "kv").roles == std::vector{Role::pair});
  for (const char* bad : {"x", "-", "3-", "-3", "1-2-3", " 1", "4294967296", "+1", "0x1"}) {
    CAPTURE(bad);
    CHECK(error_of([&] { parse_selection(bad, "", ""); }).find("for example 3 or 0-3") != std::string::npos);
  }
  CHECK(error_of([] { parse_selection("3-1", "", ""); }).find("comes after the last") != std::string::npos);
  CHECK(parse_selection("", "-10:", "").last_tokens == 10u);
  CHECK(!parse_selection("", "-10:", "").tokens);
  for (const char* bad : {"-5", "-0:", "-:", "--1:", "5", "a:b", "5:5", "6:5", "1:2:3", "-1:3", "0:0"}) {
    CAPTURE(bad);
    CHECK(error_of([&] { parse_selection("", bad, ""); }).find("for example 0:256") != std::string::npos);
  }
  for (const char* bad : {"keys", ",", "key,", ",key", "key,,value"}) {
    CAPTURE(bad);
    CHECK(error_of([&] { parse_selection("", "", bad); }).find("for example key,value") != std::string::npos);
  }
}

TEST_CASE("an empty selection is the dump itself") {
  const Selected selected = select_from(sample(), "", "", "");
  CHECK(selected.reader.get() == selected.inner);
}

TEST_CASE("roles") {
  const Selected keys = select_from(sample(), "", "", "key");
  CHECK(names(keys.reader->dump()) ==
        std::vector<std::string>{"layers/0/key", "layers/1/key", "layers/2/key", "layers/3/key"});
  CHECK(all_of(*keys.reader, 2) == keys.inner->data(6));
  CHECK(names(select_from(sample(), "", "", "other").reader->dump()) ==
        std::vector<std::string>{"token_ids", "nibbles"});
  CHECK(select_from(sample(), "", "", "kv").reader->dump().tensors.size() == 8);
  CHECK(select_from(sample(), "", "", "query,other").reader->dump().tensors.size() == 6);
}

TEST_CASE("layers of tensors with a layer number") {
  const Selected selected = select_from(sample(), "1-2", "", "");
  CHECK(names(selected.reader->dump()) == std::vector<std::string>{"layers/1/key", "layers/1/value", "layers/1/query",
                                                                   "layers/2/key", "layers/2/value", "layers/2/query"});
  CHECK(all_of(*selected.reader, 5) == selected.inner->data(8));
  CHECK(selected.reader->recognition()->model.layers == 4);
  CHECK(selected.reader->recognition()->recognised == 4);
  CHECK(names(select_from(sample(), "3-99", "", "key,other").reader->dump()) ==
        std::vector<std::string>{"layers/3/key", "token_ids", "nibbles"});
}

TEST_CASE("tokens") {
  for (const std::uint64_t part_bytes : {2u, 10u, 24u, 80u, 1000u}) {
    for (const std::size_t slices : {1u, 3u}) {
      const Selected selected = select_from(sample(), "", "3:7", "", part_bytes, slices);
      const Dump& dump = selected.reader->dump();
      REQUIRE(dump.tensors.size() == 14);
      CHECK(dump.tensors[1].shape == std::vector<std::uint64_t>{2, 4, 4});
      CHECK(dump.tensors[12].shape == std::vector<std::uint64_t>{10});
      const Slice box{1, {0, 3, 0}, {2, 4, 4}};
      CHECK(all_of(*selected.reader, 1) == test::gather(sample().tensors[1], selected.inner->data(1), box));
      CHECK(all_of(*selected.reader, 12) == selected.inner->data(12));
      CHECK(all_of(*selected.reader, 13) == selected.inner->data(13));
      CHECK(selected.reader->recognition()->tensors[1].axes == "HTD");
    }
  }
  const Selected clipped = select_from(sample(), "", "8:100", "");
  CHECK(clipped.reader->dump().tensors[0].shape == std::vector<std::uint64_t>{2, 2, 4});
}

TEST_CASE("parts that hold nothing of the selection are not fetched") {
  const Selected selected = select_from(sample(), "2", "0:2", "key", 16);
  MemoryWriter writer(selected.reader->dump());
  transcode(*selected.reader, writer, 1);
  // Layer 2's key starts after 8 tensors of 320 or 160 bytes; each head's first
  // two tokens are one part of 16 bytes.
  const auto touches = [&](std::uint64_t index) {
    const Slice slice = selected.inner->part(index).slices.at(0);
    return slice.tensor == 6 && slice.start.at(1) < 2;
  };
  CHECK(selected.inner->fetched.size() == 2);
  CHECK(std::ranges::all_of(selected.inner->fetched, touches));
  CHECK(selected.reader->part_count() == 2);
}

TEST_CASE("tokens are positions, of which a shorter layer has the last") {
  const Dump dump{.tensors = {{"k_0", DType::f16, {1, 2, 10, 4}},
                              {"k_1", DType::f16, {1, 2, 3, 4}},
                              {"k_2", DType::f16, {1, 2, 0, 4}}},
                  .attributes = {}};
  const Selected last = select_from(dump, "", "5:9", "");
  CHECK(names(last.reader->dump()) == std::vector<std::string>{"k_0", "k_1", "k_2"});
  CHECK(last.reader->dump().tensors[0].shape == std::vector<std::uint64_t>{1, 2, 4, 4});
  CHECK(last.reader->dump().tensors[1].shape == std::vector<std::uint64_t>{1, 2, 2, 4});
  CHECK(last.reader->dump().tensors[2].elements() == 0);
  const Selected first = select_from(dump, "", ":7", "");
  CHECK(names(first.reader->dump()) == std::vector<std::string>{"k_0", "k_2"});
}

TEST_CASE("tokens of a ring are cut by rows, and that is said") {
  Dump dump{.tensors = {{"0.0", DType::f16, {1, 2, 10, 4}}, {"0.1", DType::f16, {1, 2, 10, 4}}},
            .attributes = {text_attribute("2.0", "RotatingKVCache")}};
  const auto said = [&] {
    MemoryReader reader(dump);
    return windows_text(row_places(reader, recognise(dump)), recognise(dump), {0, 4});
  };
  CHECK(said() ==
        "layers 0 are cut by rows, each a ring: once it is full, its "
        "rows are not in the order of time");
  dump.attributes = {text_attribute("2.0", "KVCache")};
  CHECK(said().empty());
}

TEST_CASE(
    "a range of tokens is advised against padding only where it fits "
    "every layer") {
  for (const std::uint64_t rows : {10u, 6u}) {
    Dump dump{.tensors = {{"layers/0/key", DType::f16, {2, 10, 4}}, {"layers/1/key", DType::f16, {2, rows, 4}}},
              .attributes = {}};
    MemoryReader reader(dump);
    for (std::size_t head = 0; head < 2; ++head) {
      std::fill_n(reader.data(0).begin() + static_cast<std::ptrdiff_t>((head * 10 + 6) * 8), 32, std::byte{0});
    }
    const std::string said = tool::padding_text(reader, recognise(dump));
    CHECK(said.starts_with("tokens 6 to 9 are zero in 1 of 2 tensors: padding"));
    CHECK((said.find("--tokens 0:6") != said.npos) == (rows == 10));
  }
}

TEST_CASE("padding holds no positions: shorter layers end where it begins") {
  const Dump dump{.tensors = {{"k_0", DType::f16, {1, 2, 10, 4}}, {"k_1", DType::f16, {1, 2, 3, 4}}}, .attributes = {}};
  const auto cut = [&](std::string_view tokens) {
    auto inner = std::make_unique<MemoryReader>(dump);
    for (std::size_t head = 0; head < 2; ++head) {
      std::fill_n(inner->data(0).begin() + static_cast<std::ptrdiff_t>((head * 10 + 6) * 8), 32, std::byte{0});
    }
    const Recognition recognition = recognise(dump);
    const RowPlaces places = row_places(*inner, recognition);
    CHECK(places.first == std::vector<std::uint64_t>{0, 3});
    CHECK(places.rows == std::vector<std::uint64_t>{6, 3});
    CHECK(windows_text(places, recognition, {0, 3}) ==
          "layers 1 hold 3 tokens, taken for the last of 6, 3 to 5, and have none of those asked for");
    return select_positions(std::move(inner), recognition, parse_selection({}, tokens, {}));
  };
  const auto part = cut(":4");
  CHECK(part->dump().tensors[0].shape[2] == 4);
  CHECK(part->dump().tensors[1].shape[2] == 1);
  const auto last = cut("-2:");
  CHECK(last->dump().tensors[0].shape[2] == 2);
  CHECK(last->dump().tensors[1].shape[2] == 2);
}

TEST_CASE("of several sequences each has its own rows") {
  const Dump dump{
      .tensors = {{"a/layers/0/key", DType::f16, {1, 2, 10, 4}}, {"b/layers/0/key", DType::f16, {1, 2, 4, 4}}},
      .attributes = {}};
  const Selected selected = select_from(dump, "", ":6", "");
  CHECK(selected.reader->dump().tensors.at(0).shape[2] == 6);
  CHECK(selected.reader->dump().tensors.at(1).shape[2] == 4);
  CHECK(names(select_from(dump, "", "5:", "").reader->dump()) == std::vector<std::string>{"a/layers/0/key"});
}

TEST_CASE("stacked tensors are cropped along layers and pairs") {
  const TensorInfo info{"kv_chunk", DType::f32, {6, 2, 5, 3, 4}};
  const Selected selected = select_from({.tensors = {info}, .attributes = {}}, "2-3", "1:4", "value", 40);
  const TensorInfo& reduced = selected.reader->dump().tensors.at(0);
  CHECK(reduced.shape == std::vector<std::uint64_t>{2, 1, 3, 3, 4});
  const TensorRole& role = selected.reader->recognition()->tensors.at(0);
  CHECK(role.role == Role::value);
  CHECK(role.axes == "LBTHD");
  CHECK(role.why.find("layers 2-3 of it") != std::string::npos);
  CHECK(role.why.find("value half") != std::string::npos);
  const Slice box{0, {2, 1, 1, 0, 0}, {2, 1, 3, 3, 4}};
  CHECK(all_of(*selected.reader, 0) == test::gather(info, selected.inner->data(0), box));
  const Selected both = select_from({.tensors = {info}, .attributes = {}}, "", "", "key,value");
  CHECK(both.reader->dump().tensors[0] == info);
  CHECK(both.reader->recognition()->tensors[0].role == Role::pair);
}

TEST_CASE("half of a batched pair has lost the axis of keys and values") {
  for (const auto& [name, shape, axes, rest] :
       {std::tuple{"past_key_values", std::vector<std::uint64_t>{3, 2, 1, 2, 5, 4}, "LBHTD",
                   std::vector<std::uint64_t>{3, 1, 2, 5, 4}},
        std::tuple{"past_key_value_3", std::vector<std::uint64_t>{3, 2, 2, 5, 4}, "BHTD",
                   std::vector<std::uint64_t>{3, 2, 5, 4}}}) {
    const TensorInfo info{name, DType::f16, shape};
    for (const auto& [role, which] : {std::pair{"key", 0u}, std::pair{"value", 1u}}) {
      const Selected selected = select_from({.tensors = {info}, .attributes = {}}, "", "", role);
      const Dump& dump = selected.reader->dump();
      CHECK(dump.tensors[0].shape == rest);
      CHECK(role_name(selected.reader->recognition()->tensors[0].role) == role);
      CHECK(selected.reader->recognition()->tensors[0].axes == Axes(axes));
      Slice half{0, std::vector<std::uint64_t>(shape.size(), 0), shape};
      half.start[1] = which;
      half.count[1] = 1;
      CHECK(all_of(*selected.reader, 0) == test::gather(info, selected.inner->data(0), half));
      Bytes read(dump.tensors[0].bytes());
      selected.reader->read({0, std::vector<std::uint64_t>(rest.size(), 0), rest}, read);
      CHECK(read == test::gather(info, selected.inner->data(0), half));
    }
  }
}

TEST_CASE("half of a pair says what it is, which its name does not, and is recognised by that") {
  Dump dump{.tensors = {{"kvcache", DType::f16, {256, 2, 8}}},
            .attributes = {text_attribute("safetensors:fmt", "2", "kvcache"), text_attribute("note", "kept", "kvcache"),
                           text_attribute("axes", "T2C", "kvcache")}};
  const Dump half = select_from(dump, "", "", "key").reader->dump();
  CHECK(half.attributes == std::vector<Attribute>{text_attribute("note", "kept", "kvcache"),
                                                  text_attribute("role", "key", "kvcache"),
                                                  text_attribute("axes", "TBC", "kvcache")});
  const TensorRole role = recognise(half).tensors.at(0);
  CHECK(role.role == Role::key);
  CHECK(role.axes == "TBC");
  CHECK(select_from(dump, "", "0:9", "key,value").reader->dump().attributes == dump.attributes);
  // Of a tensor whose name says one of both, and of words that are no such role, nothing changes.
  Dump other{
      .tensors = {{"layers.0.key", DType::f16, {1, 8, 300, 64}}, {"kv_cache", DType::f16, {2, 256, 8, 128}}},
      .attributes = {text_attribute("role", "value", "layers.0.key"), text_attribute("role", "both", "kv_cache")}};
  CHECK(recognise(other).tensors[0].role == Role::key);
  CHECK(recognise(other).tensors[1].role == Role::pair);
}

TEST_CASE("attributes of what stays") {
  const Dump late = select_from(sample(), "3", "", "value").reader->dump();
  CHECK(late.text("n_layers") == "4");
  CHECK(late.text("first_position") == "100");
  const auto objects = [](const Dump& dump) {
    std::vector<std::string> result;
    for (const Attribute& attribute : dump.attributes) {
      if (!attribute.object.empty()) result.push_back(attribute.object);
    }
    return result;
  };
  CHECK(objects(late) == std::vector<std::string>{"layers/3", "layers", "empty_group"});
  CHECK(objects(select_from(sample(), "0", "", "").reader->dump()) ==
        std::vector<std::string>{"layers", "empty_group"});
}

TEST_CASE("the first position follows the tokens") {
  CHECK(select_from(sample(), "", "-4:", "").reader->dump().text("first_position") == "106");  // of ten
  const Selected selected = select_from(sample(), "", "3:", "");
  CHECK(selected.reader->dump().text("first_position") == "103");
  CHECK(selected.reader->recognition()->model.rope.first_position == 103);
  Dump unstated = sample();
  std::erase_if(unstated.attributes, [](const Attribute& a) { return a.name == "first_position"; });
  CHECK(select_from(unstated, "", "3:", "").reader->dump().text("first_position") == "3");
  std::erase_if(unstated.attributes, [](const Attribute& a) { return a.name == "rope"; });
  CHECK(select_from(unstated, "", "3:", "").reader->dump().text("first_position").empty());
}

TEST_CASE("a selection that leaves nothing says what there is") {
  const char* selections[][3] = {{"4", "", ""}, {"", "10:", ""}, {"0", "", "other,key"}, {"9", "", "key,other"}};
  for (const auto& selection : selections) {
    const char *layers = selection[0], *tokens = selection[1], *roles = selection[2];
    CAPTURE(layers);
    CAPTURE(tokens);
    const std::string message = error_of([&] { select_from(sample(), layers, tokens, roles); });
    if (std::string_view(layers) == "0") {
      CHECK(message.empty());
    } else {
      CHECK(message ==
            "the selection leaves nothing; the dump has layers up "
            "to 3, 10 tokens, roles key other query value");
    }
  }
  CHECK(error_of([] {
          select_from({.tensors = {{"x", DType::u8, {3}}}, .attributes = {}}, "", "", "key");
        }) ==
        "the selection leaves nothing; the dump has no known layers, 0 "
        "tokens, roles other");
}

TEST_CASE("reads beyond the reduced tensor fail") {
  const Selected selected = select_from(sample(), "", "0:4", "");
  Bytes out(2 * 5 * 4 * 2);
  CHECK_THROWS_AS(selected.reader->read({0, {0, 0, 0}, {2, 5, 4}}, out), Error);
}

TEST_CASE("halves of many pairs say what they are") {
  constexpr std::size_t kPairs = 20000;
  Dump dump;
  for (std::size_t i = 0; i < kPairs; ++i)
    dump.tensors.push_back({fmt::format("layers.{}.kv", i), DType::f16, {2, 1, 4, 8}});
  Recognition roles;
  roles.tensors.resize(kPairs);
  for (TensorRole& role : roles.tensors) {
    role.role = Role::pair;
    role.axes = "2HTD";
  }
  const auto keys = select(std::make_unique<MemoryReader>(std::move(dump)), roles, parse_selection("", "", "key"));
  CHECK(keys->dump().attributes.size() == 2 * kPairs);
}

TEST_CASE("rows of many caches of llama.cpp have their places") {
  constexpr std::size_t kCaches = 8000;
  Dump dump{.tensors = {}, .attributes = {text_attribute("llama.cpp", "state")}};
  for (std::size_t i = 0; i < kCaches; ++i) {
    dump.tensors.push_back({fmt::format("{}.positions", i), DType::i32, {1}});
    dump.tensors.push_back({fmt::format("{}.layers.0.key", i), DType::f16, {1, 8}});
  }
  MemoryReader reader(std::move(dump));
  for (std::size_t i = 0; i < kCaches; ++i) std::ranges::fill(reader.data(2 * i), std::byte{1});
  Recognition roles;
  roles.tensors.resize(2 * kCaches);
  for (std::size_t t = 1; t < roles.tensors.size(); t += 2) {
    roles.tensors[t].role = Role::key;
    roles.tensors[t].axes = "TC";
  }
  CHECK(row_places(reader, roles).stated);
}
