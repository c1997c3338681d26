// SPDX-License-Identifier: Apache-2.0
#include "formats/identity.hpp"

#include <doctest/doctest.h>

#include "tests/support/memory_dump.hpp"

namespace kvzip::test {
namespace {

Dump saying(const std::vector<std::pair<std::string, std::string>>& metadata) {
  Dump dump;
  for (const auto& [name, value] : metadata) dump.attributes.push_back(text_attribute(name, value));
  return dump;
}

}  // namespace

TEST_CASE("what two files both state and not alike keeps them apart") {
  const Identity a = identity_of(saying({{"model_name", "m"}, {"revision", "1"}, {"token_hash", "x"}, {"other", "o"}}));
  CHECK(a == Identity{{"model", "m"}, {"weights", "1"}, {"tokens", "x"}});
  CHECK(differing_text(a, a, Belonging::cache).empty());
  CHECK(differing_text(a, {}, Belonging::cache).empty());
  // Another name of the same fact; what a user states goes before what the file does.
  const Identity b = identity_of(saying({{"model", "n"}, {"tokens_hash", "y"}}), {{"model", "k"}});
  CHECK(differing_text(a, b, Belonging::cache) == "model ('m' and 'k'), tokens ('x' and 'y')");
  CHECK(differing_text(a, b, Belonging::model) == "model ('m' and 'k')");
  CHECK(identity_of(saying({{"llama.cpp.rotated_keys", "unknown"}})).empty());
}

TEST_CASE("ids of tokens are compared where both files list them alike") {
  const auto with_ids = [](std::vector<std::int32_t> ids, DType dtype = DType::i32) {
    const ByteView bytes = std::as_bytes(std::span(ids));
    Dump dump;
    dump.tensors.push_back({"token_ids", dtype, {ids.size()}});
    auto reader = std::make_unique<MemoryReader>(dump);
    reader->data(0).assign(bytes.begin(), bytes.end());
    return reader;
  };
  CHECK(!other_token_ids(*with_ids({1, 2, 3}), *with_ids({1, 2, 3})));
  CHECK(other_token_ids(*with_ids({1, 2, 3}), *with_ids({1, 2, 4})));
  CHECK(!other_token_ids(*with_ids({1, 2, 3}), *with_ids({1, 2})));
  CHECK(!other_token_ids(*with_ids({1, 2, 3}), *with_ids({1, 2, 4}, DType::u32)));
}

TEST_CASE("keys and values of 8 bits need scales that have a name") {
  Dump dump;
  dump.tensors = {
      {"layers.0.key", DType::f8_e4m3, {2, 8, 4}}, {"layers.0.value", DType::i8, {2, 8, 4}}, {"ids", DType::i8, {8}}};
  const auto warned = [&] { return missing_scales_text(dump, recognise(dump)); };
  CHECK(warned().starts_with("2 tensors of keys or values are F8_E4M3, and nothing in the file is called a scale"));
  dump.tensors.push_back({"layers.0.k_scale", DType::f32, {1}});
  CHECK(warned().empty());
  dump.tensors.pop_back();
  dump.attributes.push_back(text_attribute("rope_scaling_type", "linear"));
  CHECK(!warned().empty());
  dump.attributes.push_back(text_attribute("kv_scales", "0.5"));
  CHECK(warned().empty());
  dump = {};
  dump.tensors = {{"layers.0.key", DType::f16, {2, 8, 4}}};
  CHECK(warned().empty());
}

}  // namespace kvzip::test
