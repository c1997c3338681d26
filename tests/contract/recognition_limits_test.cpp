// SPDX-License-Identifier: Apache-2.0
// Limits of what names, metadata and values of a dump may say of it, each at its edge.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <cstring>

#include "codec/limits.hpp"
#include "formats/ggml_values.hpp"
#include "formats/head_rows.hpp"
#include "formats/identity.hpp"
#include "formats/name_patterns.hpp"
#include "formats/rope_axes.hpp"
#include "formats/row_places.hpp"
#include "kvzip/error.hpp"
#include "kvzip/layout.hpp"
#include "tests/support/made_reader.hpp"
#include "tests/support/memory_dump.hpp"

namespace kvzip::test {
namespace {

constexpr std::size_t kSpecial = limits::kSpecialLayers;

/// Layers with attention of their own, as these attributes say.
std::map<std::uint32_t, LayerAttention> own_layers(const std::vector<std::pair<std::string, std::string>>& attributes) {
  Dump dump{.tensors = {{"layers.0.key", DType::f16, {1, 2, 4}}},
            .attributes = {text_attribute("sliding_window", "4")}};
  for (const auto& [name, value] : attributes) dump.attributes.push_back(text_attribute(name, value));
  return recognise(dump).model.own;
}

/// "0-3" of four.
std::string first_layers(std::size_t count) {
  return fmt::format("0-{}", count - 1);
}

/// A list of one item for each layer, of `count` layers the last of which has `last`.
std::string items(std::size_t count, std::string_view last) {
  std::string out;
  for (std::size_t i = 1; i < count; ++i) out += "1,";
  return out + std::string(last);
}

std::string message_of(auto&& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return {};
}

/// "key 3".
std::string kind_and_layer(const std::string& name) {
  const NameReading reading = read_name(name);
  if (reading.kind == NameKind::unknown) return "unknown";
  return fmt::format("{} {}", role_name(reading.role), reading.layer ? fmt::to_string(*reading.layer) : "?");
}

/// Tensors that may be heads x tokens or tokens x heads, as recognise() leaves them open.
struct OpenKeys {
  Dump dump;
  Recognition recognition;

  void add(const std::vector<std::uint64_t>& shape, const char* one, const char* other) {
    dump.tensors.push_back({fmt::format("layers.{}.key", dump.tensors.size()), DType::f16, shape});
    TensorRole role;
    role.readings = {Axes(one), Axes(other)};
    recognition.tensors.push_back(role);
  }
  /// Blocks that are read to settle them.
  std::uint64_t reads() {
    MadeReader reader(dump);
    settle_by_rotation(reader, recognition);
    return reader.reads;
  }
};

std::uint64_t rope_reads(const std::vector<std::uint64_t>& shape) {
  OpenKeys keys;
  keys.add(shape, shape.size() == 4 ? "LHTD" : "HTD", shape.size() == 4 ? "LTHD" : "THD");
  return keys.reads();
}

}  // namespace

TEST_CASE("recognition limits: layers of one list") {
  CHECK(own_layers({{"local_layers", first_layers(kSpecial)}}).size() == kSpecial);
  CHECK(own_layers({{"local_layers", first_layers(kSpecial + 1)}}).empty());
  CHECK(own_layers({{"local_layers", first_layers(kSpecial - 1) + ",7"}}).size() == kSpecial - 1);
  CHECK(own_layers({{"local_layers", first_layers(kSpecial) + ",7"}}).empty());
  // Lists of an item for each layer: no more of them are looked at.
  const auto plain = [](std::size_t layers) { return own_layers({{"no_rope_layers", items(layers, "0")}}).size(); };
  CHECK(plain(kSpecial) == 1);
  CHECK(plain(kSpecial + 1) == 0);
  const auto local = [](std::size_t layers) {
    return own_layers({{"layer_types", items(layers, "sliding_attention")}});
  };
  CHECK(local(kSpecial).contains(kSpecial - 1));
  CHECK(local(kSpecial + 1).empty());
  const auto pattern = [](std::size_t layers) {
    return own_layers({{"n_layers", std::to_string(layers)}, {"sliding_window_pattern", std::to_string(kSpecial + 9)}});
  };
  CHECK(pattern(kSpecial).size() == kSpecial);
  CHECK(pattern(kSpecial + 1).size() == kSpecial);
}

TEST_CASE("recognition limits: layers of all lists") {
  const auto named = [](std::size_t layers) {
    return own_layers({{fmt::format("rope_theta[{}]", first_layers(layers)), "5"}, {"rope_dims[9000]", "8"}});
  };
  CHECK(named(kSpecial - 1).size() == kSpecial);
  CHECK(named(kSpecial).size() == kSpecial);
  CHECK_FALSE(named(kSpecial).contains(9000));
  const auto both = [](std::size_t layers) {
    return own_layers({{"local_layers", first_layers(layers)}, {"rope_dims[9000]", "8"}});
  };
  CHECK(both(kSpecial - 1).size() == kSpecial);
  CHECK(both(kSpecial - 1).contains(9000));
  CHECK(both(kSpecial).size() == kSpecial);
  CHECK_FALSE(both(kSpecial).contains(9000));
}

TEST_CASE("recognition limits: bytes of a word and words of a name") {
  // A word and its number, and two words that only a capital parts.
  const auto number = [](std::size_t bytes) { return "layer" + std::string(bytes - 6, '0') + "3"; };
  CHECK(kind_and_layer(number(limits::kNameWord) + ".key") == "key 3");
  CHECK(kind_and_layer(number(limits::kNameWord + 1) + ".key") == "unknown");
  CHECK(kind_and_layer(number(limits::kNameWord - 3) + "Key") == "key 3");
  CHECK(kind_and_layer(number(limits::kNameWord - 2) + "Key") == "unknown");
  const auto words = [](std::size_t count) {
    std::string name = "key";
    while (--count > 0) name.insert(0, "model.");
    return name;
  };
  CHECK(kind_and_layer(words(limits::kNameWords)) == "key ?");
  CHECK(kind_and_layer(words(limits::kNameWords + 1)) == "unknown");
}

TEST_CASE("recognition limits: layers and sequences to measure") {
  // All of one layer and sequence: a place for each would take hundreds of megabytes.
  const auto heads = [](std::uint64_t boxes) {
    const Dump dump{.tensors = {{"k", DType::f16, {boxes - 1, 1, 1, 1}}, {"v", DType::f16, {1, 1, 1, 1}}},
                    .attributes = {}};
    Recognition recognition;
    recognition.tensors = {{Role::key, 0, "2HTD", ""}, {Role::value, 0, "BHTD", ""}};
    return find_heads(dump, recognition, 0);
  };
  {
    const HeadMap all = heads(limits::kHeadBoxes);
    REQUIRE(all.size() == 1);
    CHECK(all.at({0, 0}).keys.size() == limits::kHeadBoxes - 1);
    CHECK(all.at({0, 0}).values.size() == 1);
  }
  CHECK(message_of([&] { heads(limits::kHeadBoxes + 1); }) ==
        fmt::format("v: more than {} layers and sequences to measure", limits::kHeadBoxes));
}

TEST_CASE("recognition limits: positions of a cache's rows") {
  const auto placed = [](std::uint64_t cells) {
    // The last position stands first.
    MadeReader reader({.tensors = {{"positions", DType::i32, {cells}}, {"layers.0.key", DType::i8, {cells, 1}}},
                       .attributes = {text_attribute("llama.cpp", "sequence 2")}},
                      [&](const Slice& slice, std::span<std::byte> out) {
                        if (slice.tensor == 1) std::ranges::fill(out, std::byte{1});
                        for (std::size_t i = 0; slice.tensor == 0 && i < cells; ++i) {
                          const auto position = static_cast<std::int32_t>(i == 0 ? cells - 1 : i - 1);
                          std::memcpy(out.data() + i * sizeof position, &position, sizeof position);
                        }
                      });
    Recognition recognition;
    recognition.tensors = {{}, {Role::key, 0, "TC", ""}};
    return row_places(reader, recognition);
  };
  const RowPlaces told = placed(limits::kCells), open = placed(limits::kCells + 1);
  CHECK(told.stated);
  CHECK(told.turn[1] == 1);
  CHECK(told.end == limits::kCells);
  CHECK_FALSE(open.stated);
  CHECK(open.turn[1] == 0);
  CHECK(open.end == limits::kCells + 1);
}

TEST_CASE("recognition limits: lists of tokens that are compared") {
  const auto ids = [](std::uint64_t bytes, std::byte last) {
    return MadeReader({.tensors = {{"token_ids", DType::u8, {bytes}}}, .attributes = {}},
                      [=](const Slice&, std::span<std::byte> out) { out.back() = last; });
  };
  const auto differ = [&](std::uint64_t bytes) {
    MadeReader a = ids(bytes, std::byte{1}), b = ids(bytes, std::byte{2});
    return other_token_ids(a, b);
  };
  CHECK(differ(limits::kTokenList));
  CHECK_FALSE(differ(limits::kTokenList + 1));
  const auto begins = [&](std::uint64_t bytes) {
    MadeReader front = ids(bytes / 2, std::byte{0}), all = ids(bytes, std::byte{1});
    return repeats_token_ids(front, bytes / 2, all);
  };
  CHECK(begins(limits::kTokenList));
  CHECK_FALSE(begins(limits::kTokenList + 1));
}

TEST_CASE("recognition limits: elements that are looked at for rotary embedding") {
  constexpr std::uint64_t kAll = limits::kRopeElements, kSide = 64;
  CHECK(rope_reads({kSide, kAll / kSide / 64, 64}) == 1);
  // The least that is more: heads of an odd number of channels are not looked at for another reason.
  static_assert(9 * 43 * 10838 == kAll + 2);
  CHECK(rope_reads({9, 43, 10838}) == 0);
  CHECK(rope_reads({2, kSide, kAll / kSide / 128, 64}) == 2);
  CHECK(rope_reads({3, kSide, kAll / kSide / 128, 64}) == 2);
  // Of all tensors.
  OpenKeys keys;
  for (std::uint64_t left = limits::kRopeDump; left > 0; left -= kAll) {
    keys.add({kSide, kAll / kSide / 64, 64}, "HTD", "THD");
  }
  const std::uint64_t most = keys.dump.tensors.size();
  CHECK(keys.reads() == most);
  keys.add({1, 1, 2}, "HTD", "THD");
  CHECK(keys.reads() == most);
}

TEST_CASE("recognition limits: bytes of a row in blocks of ggml") {
  const auto taken = [](const char* name, std::uint64_t bytes) {
    const Dump dump{.tensors = {{"a", DType::u8, {1, bytes}}},
                    .attributes = {text_attribute(std::string(kGgmlAttribute), name, "a")}};
    return ggml_blocks(dump).size() == 1;
  };
  for (const char* name : {"q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "iq4_nl"}) {
    CAPTURE(name);
    const GgmlType* type = find_ggml_type(name);
    REQUIRE(type != nullptr);
    const std::uint64_t most = limits::kGgmlRow / type->bytes * type->bytes;
    CHECK(taken(name, most));
    CHECK_FALSE(taken(name, most + type->bytes));
    CHECK(TensorInfo{"a", type->dtype, {1, type->elements_in_row(most)}}.bytes() / sizeof(float) ==
          type->elements_in_row(most));
  }
}

}  // namespace kvzip::test
