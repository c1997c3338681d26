// SPDX-License-Identifier: Apache-2.0
// The C interface: every function, and what it gives.
#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "kvzip/container.hpp"
#include "kvzip/version.hpp"
#include "tests/unit/c_api_dumps.hpp"
#include "tests/unit/scratch_directory.hpp"

namespace kvzip::test {
namespace {

TEST_CASE("C: arrays become a container and come back, whole, by tokens and all at once") {
  const Small small;
  const Coded coded(small, "lossless");
  const Handle read = opened(coded.bytes, coded.size);
  REQUIRE(kvzip_tensor_count(read.get()) == 3);
  std::size_t value = 9;
  REQUIRE(kvzip_find(read.get(), "layers.3.value", &value) == KVZIP_OK);
  REQUIRE(value == 1);

  std::vector<float> whole(small.value.size());
  CHECK(kvzip_read(read.get(), value, whole.data(), kTensorBytes) == KVZIP_OK);
  CHECK(whole == small.value);

  std::vector<float> part(kHeads * 3 * kDim);
  CHECK(kvzip_read_tokens(read.get(), value, 5, 8, part.data(), part.size() * sizeof(float)) == KVZIP_OK);
  for (std::size_t h = 0; h < kHeads; ++h) {
    CHECK(std::ranges::equal(std::span(part).subspan(h * 3 * kDim, 3 * kDim),
                             std::span(small.value).subspan((h * kTokens + 5) * kDim, 3 * kDim)));
  }
  CHECK(kvzip_read_tokens(read.get(), value, 8, 8, nullptr, 0) == KVZIP_OK);

  std::vector<std::int64_t> ids(kTokens);
  void* const buffers[] = {nullptr, whole.data(), ids.data()};
  whole.assign(whole.size(), 0);
  CHECK(kvzip_set_threads(read.get(), 2) == KVZIP_OK);
  CHECK(kvzip_read_all(read.get(), buffers, 3) == KVZIP_OK);
  CHECK(whole == small.value);
  CHECK(ids == small.ids);
}

TEST_CASE("C: what tensors and metadata are") {
  const Small small;
  const Coded coded(small, "kv = quant:bits=8,rans");
  const Handle read = opened(coded.bytes, coded.size);
  for (const kvzip_dump* dump :
       {const_cast<const kvzip_dump*>(small.dump.get()), const_cast<const kvzip_dump*>(read.get())}) {
    const kvzip_tensor* key = kvzip_tensor_at(dump, 0);
    REQUIRE(key != nullptr);
    CHECK(std::string(key->name) == "layers.3.key");
    CHECK(std::string(key->dtype) == "F32");
    REQUIRE(key->rank == 3);
    CHECK(key->shape[1] == kTokens);
    CHECK(key->bytes == kTensorBytes);
    CHECK(std::string(key->role) == "key");
    CHECK(std::string(key->axes) == "HTD");
    CHECK(key->layer == 3);
    CHECK(key->token_axis == 1);
    CHECK(std::strlen(key->why) > 0);
    const kvzip_tensor* ids = kvzip_tensor_at(dump, 2);
    REQUIRE(ids != nullptr);
    CHECK(std::string(ids->role) == "other");
    CHECK(std::string(ids->axes).empty());
    CHECK(ids->layer == -1);
    CHECK(ids->token_axis == -1);
    CHECK(kvzip_tensor_at(dump, 3) == nullptr);
    CHECK(says("there is no tensor 3"));
    CHECK(std::string(kvzip_metadata_name(dump, 0)) == "model");
    CHECK(std::string(kvzip_metadata_value(dump, 0)) == "small");
    CHECK(kvzip_metadata_name(dump, 1) == nullptr);
    CHECK(kvzip_metadata_value(dump, 1) == nullptr);
  }
  CHECK(kvzip_set_metadata(small.dump.get(), "model", "other") == KVZIP_OK);
  CHECK(std::string(kvzip_metadata_value(small.dump.get(), 0)) == "other");
}

TEST_CASE("C: names and texts of presets") {
  const Small small;
  const auto preset_of = [&](const char* preset) {
    const Coded coded(small, preset);
    return open_kvz(ByteView{static_cast<const std::byte*>(coded.bytes), coded.size})->description().preset;
  };
  CHECK(preset_of("int8") == "int8");
  CHECK(preset_of(nullptr) == kDefaultPreset);
  CHECK(preset_of("key = quant:bits=4,pack\nvalue = quant:bits=2,pack\n") == "preset");
  CHECK(kvzip_preset_name(0) == builtin_presets()[0].name);
  CHECK(kvzip_preset_name(builtin_presets().size()) == nullptr);
  CHECK(kvzip_version() == version());
  void* bytes = nullptr;
  std::size_t size = 1;
  CHECK(kvzip_compress_memory(small.dump.get(), "int7", &bytes, &size) == KVZIP_INVALID);
  CHECK(says("int7"));
  CHECK(kvzip_compress_memory(small.dump.get(), "kv = quant:bits=99,pack", &bytes, &size) == KVZIP_INVALID);
  CHECK(bytes == nullptr);
  CHECK(size == 0);
}

TEST_CASE("C: files are the bytes of memory, and appear whole or not at all") {
  const ScratchDirectory scratch;
  const Small small;
  const std::string path = scratch.file("a.kvz");
  REQUIRE(kvzip_compress(small.dump.get(), "int8", path.c_str(), 0) == KVZIP_OK);
  const Coded coded(small, "int8");
  CHECK(test::content_of(path) == std::string(static_cast<const char*>(coded.bytes), coded.size));
  CHECK(kvzip_compress(small.dump.get(), "int4", path.c_str(), 0) == KVZIP_INVALID);
  CHECK(says("KVZIP_OVERWRITE"));
  CHECK(kvzip_compress(small.dump.get(), "int4", path.c_str(), 2) == KVZIP_INVALID);
  CHECK(kvzip_compress(small.dump.get(), "int4", path.c_str(), KVZIP_OVERWRITE) == KVZIP_OK);
  CHECK(kvzip_compress(small.dump.get(), "int8", scratch.file("none/b.kvz").c_str(), 0) == KVZIP_IO);
  CHECK(scratch.entries() == 1);

  kvzip_dump* dump = nullptr;
  REQUIRE(kvzip_open(path.c_str(), &dump) == KVZIP_OK);
  const Handle read(dump, &kvzip_close);
  CHECK(kvzip_compress(read.get(), "lossless", scratch.file("c.kvz").c_str(), 0) == KVZIP_OK);
  CHECK(kvzip_open(scratch.file("d.kvz").c_str(), &dump) == KVZIP_IO);
  CHECK(dump == nullptr);
  CHECK(says("d.kvz"));
}

TEST_CASE("C: in the order of tokens a container decodes to the same") {
  const ScratchDirectory scratch;
  const Small small;
  const std::string path = scratch.file("a.kvz");
  const char* const preset = "chunk = 4\nkv = quant:bits=8:axis=token,rans";
  const Coded by_layers(small, preset);
  void* bytes = nullptr;
  std::size_t size = 0;
  REQUIRE(kvzip_compress_by_tokens_memory(small.dump.get(), preset, 4, &bytes, &size) == KVZIP_OK);
  REQUIRE(kvzip_compress_by_tokens(small.dump.get(), preset, 4, path.c_str(), 0) == KVZIP_OK);
  CHECK(test::content_of(path) == std::string(static_cast<const char*>(bytes), size));
  {
    const Handle read = opened(bytes, size), other = opened(by_layers.bytes, by_layers.size);
    std::vector<float> got(small.value.size()), want(small.value.size());
    CHECK(kvzip_read(read.get(), 1, got.data(), kTensorBytes) == KVZIP_OK);
    CHECK(kvzip_read(other.get(), 1, want.data(), kTensorBytes) == KVZIP_OK);
    CHECK(got == want);
    CHECK(kvzip_read_tokens(read.get(), 1, 3, 6, got.data(), kTensorBytes) == KVZIP_OK);
    CHECK(kvzip_read_tokens(other.get(), 1, 3, 6, want.data(), kTensorBytes) == KVZIP_OK);
    CHECK(got == want);
  }
  kvzip_free(bytes);
  // 0 is 1024, which is all of them.
  REQUIRE(kvzip_compress_by_tokens_memory(small.dump.get(), preset, 0, &bytes, &size) == KVZIP_OK);
  CHECK(std::string(static_cast<const char*>(bytes), size) ==
        std::string(static_cast<const char*>(by_layers.bytes), by_layers.size));
  kvzip_free(bytes);
  CHECK(kvzip_compress_by_tokens(small.dump.get(), preset, 4, path.c_str(), 0) == KVZIP_INVALID);
  CHECK(says("KVZIP_OVERWRITE"));
  CHECK(kvzip_compress_by_tokens(small.dump.get(), preset, 4, path.c_str(), 2) == KVZIP_INVALID);
  CHECK(kvzip_compress_by_tokens(small.dump.get(), preset, 4, path.c_str(), KVZIP_OVERWRITE) == KVZIP_OK);
  CHECK(kvzip_compress_by_tokens(nullptr, preset, 4, "x", 0) == KVZIP_INVALID);
  CHECK(kvzip_compress_by_tokens_memory(created().get(), preset, 4, &bytes, &size) == KVZIP_INVALID);
  CHECK(bytes == nullptr);
}

TEST_CASE("C: quantised caches of MLX are shown as values, and a preset that loses nothing keeps them") {
  const Handle dump = created();
  const auto array = [&](const char* name, const char* dtype, std::vector<std::uint64_t> shape, const void* data,
                         std::size_t size) {
    REQUIRE(kvzip_add(dump.get(), name, dtype, shape.size(), shape.data(), data, size) == KVZIP_OK);
  };
  const std::vector<std::uint32_t> codes(2 * 5 * 4, 0x76543210);
  const std::vector<float> scales(2 * 5, 0.5f), biases(2 * 5, -1);
  const std::int32_t numbers[] = {5, 32, 4};
  for (const std::string half : {"0.0", "0.1"}) {
    array((half + ".0").c_str(), "U32", {1, 2, 5, 4}, codes.data(), codes.size() * 4);
    array((half + ".1").c_str(), "F32", {1, 2, 5, 1}, scales.data(), scales.size() * 4);
    array((half + ".2").c_str(), "F32", {1, 2, 5, 1}, biases.data(), biases.size() * 4);
  }
  for (int i = 0; i < 3; ++i) array(("0." + std::to_string(i + 2)).c_str(), "I32", {}, numbers + i, 4);
  const char* texts[][2] = {
      {"1.0", "QuantizedKVCache"}, {"2.0", ""},      {"2.1.0", "0.2"},   {"2.1.1", "scalar"}, {"2.2.0", "0.3"},
      {"2.2.1", "scalar"},         {"2.3.0", "0.4"}, {"2.3.1", "scalar"}};
  for (const auto& [name, text] : texts) REQUIRE(kvzip_set_metadata(dump.get(), name, text) == KVZIP_OK);

  const auto coded = [](const Handle& from, const char* preset) {
    void* bytes = nullptr;
    std::size_t size = 0;
    REQUIRE(kvzip_compress_memory(from.get(), preset, &bytes, &size) == KVZIP_OK);
    std::string out(static_cast<const char*>(bytes), size);
    kvzip_free(bytes);
    return out;
  };
  const std::string whole = coded(dump, "lossless");
  const Handle container = opened(whole.data(), whole.size());
  REQUIRE(kvzip_tensor_count(container.get()) == 3);
  std::size_t keys = 9;
  REQUIRE(kvzip_find(container.get(), "0.0", &keys) == KVZIP_OK);
  const kvzip_tensor* tensor = kvzip_tensor_at(container.get(), keys);
  CHECK(std::string(tensor->role) == "key");
  CHECK(std::string(tensor->dtype) == "F32");
  CHECK(tensor->bytes == 2 * 5 * 32 * 4);
  std::vector<float> values(2 * 5 * 32);
  REQUIRE(kvzip_read(container.get(), keys, values.data(), values.size() * 4) == KVZIP_OK);
  for (std::size_t i = 0; i < values.size(); ++i) CHECK(values[i] == 0.5f * static_cast<float>(i % 8) - 1);
  CHECK(coded(container, "lossless") == whole);
  const std::string near = coded(container, "int8");
  const Handle other = opened(near.data(), near.size());
  CHECK(kvzip_tensor_count(other.get()) == 3);
  const std::string again = coded(other, "lossless");
  CHECK(kvzip_tensor_count(opened(again.data(), again.size()).get()) == 3);
}

TEST_CASE("C: layouts and maps settle what names and shapes leave open") {
  const std::vector<float> data = wave(1);
  const Handle dump = created();
  REQUIRE(add(dump, "a.7", data) == KVZIP_OK);
  CHECK(std::string(kvzip_tensor_at(dump.get(), 0)->role) == "other");
  CHECK(kvzip_add_map(dump.get(), "a.{L}=value:HTD") == KVZIP_OK);
  CHECK(std::string(kvzip_tensor_at(dump.get(), 0)->role) == "value");
  CHECK(kvzip_tensor_at(dump.get(), 0)->layer == 7);
  // What is refused changes nothing.
  CHECK(kvzip_add_map(dump.get(), "no rule") == KVZIP_INVALID);
  CHECK(kvzip_add_map(dump.get(), "b.{L}=key:XYZ") == KVZIP_INVALID);
  CHECK(kvzip_set_layout(dump.get(), "XYZ") == KVZIP_INVALID);
  CHECK(std::string(kvzip_tensor_at(dump.get(), 0)->axes) == "HTD");
  CHECK(kvzip_set_layout(dump.get(), "") == KVZIP_OK);
}

}  // namespace
}  // namespace kvzip::test
