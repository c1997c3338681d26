// SPDX-License-Identifier: Apache-2.0
// The C interface: what it refuses.
#include <doctest/doctest.h>

#include <cstddef>
#include <cstring>
#include <string>
#include <vector>

#include "tests/unit/c_api_dumps.hpp"

namespace kvzip::test {
namespace {

TEST_CASE("C: arrays that are none") {
  const std::vector<float> data = wave(1);
  const Handle dump = created();
  const std::uint64_t shape[] = {kHeads, kTokens, kDim}, huge[] = {std::uint64_t{1} << 40, std::uint64_t{1} << 40};
  const auto refused = [&](const char* name, const char* dtype, std::size_t rank, const std::uint64_t* dims,
                           const void* bytes,
                           std::size_t size) { return kvzip_add(dump.get(), name, dtype, rank, dims, bytes, size); };
  CHECK(refused("a", "F33", 3, shape, data.data(), kTensorBytes) == KVZIP_INVALID);
  CHECK(refused("a", "F32", 3, shape, data.data(), kTensorBytes - 1) == KVZIP_INVALID);
  CHECK(refused("a", "F32", 3, shape, data.data(), kTensorBytes + 1) == KVZIP_INVALID);
  CHECK(refused("a", "F32", 2, huge, data.data(), 0) == KVZIP_LIMIT);
  CHECK(refused("a", "F32", 33, shape, data.data(), 4) == KVZIP_LIMIT);
  CHECK(refused("a", "F32", 3, shape, nullptr, kTensorBytes) == KVZIP_INVALID);
  CHECK(refused("a", "F32", 3, nullptr, data.data(), kTensorBytes) == KVZIP_INVALID);
  CHECK(refused(nullptr, "F32", 3, shape, data.data(), kTensorBytes) == KVZIP_INVALID);
  CHECK(refused("a", nullptr, 3, shape, data.data(), kTensorBytes) == KVZIP_INVALID);
  CHECK(refused("", "F32", 3, shape, data.data(), kTensorBytes) == KVZIP_INVALID);
  CHECK(refused("\xff", "F32", 3, shape, data.data(), kTensorBytes) == KVZIP_INVALID);
  CHECK(kvzip_tensor_count(dump.get()) == 0);
  CHECK(add(dump, "a", data) == KVZIP_OK);
  CHECK(add(dump, "a", data) == KVZIP_INVALID);
  CHECK(says("there already"));
  CHECK(kvzip_set_metadata(dump.get(), "", "x") == KVZIP_INVALID);
  CHECK(kvzip_set_metadata(dump.get(), "x", "\xff") == KVZIP_INVALID);
  CHECK(kvzip_set_metadata(dump.get(), "x", nullptr) == KVZIP_INVALID);
}

TEST_CASE("C: settings of HDF5's filter") {
  CHECK(kvzip_check_filter("dtype=F16 shape=2,10,24 axes=HTD role=key preset=kvzip-near") == KVZIP_OK);
  CHECK(kvzip_check_filter("dtype=F16 shape=2,10,24 axes=HTD role=key pipeline=quant:bits=4,rans") == KVZIP_OK);
  CHECK(kvzip_check_filter("dtype=F16 shape=2,10,24 axes=HTD role=keys preset=kvzip-near") == KVZIP_INVALID);
  CHECK(says("role=keys"));
  CHECK(kvzip_check_filter("dtype=F16 shape=2,10,24 axes=HTD role=key pipeline=quant:bits=99,rans") == KVZIP_INVALID);
  CHECK(says("quant"));
  CHECK(kvzip_check_filter(nullptr) == KVZIP_INVALID);
}

TEST_CASE("C: presets that there are not") {
  const Handle dump = created();
  std::size_t size = 0;
  void* bytes = nullptr;
  CHECK(kvzip_compress_memory(dump.get(), "int88", &bytes, &size) == KVZIP_INVALID);
  CHECK(says("int8"));
  CHECK(kvzip_compress_memory(dump.get(), "no such preset", &bytes, &size) == KVZIP_INVALID);
  CHECK(says("kvzip_preset_name()"));
}

TEST_CASE("C: empty dumps, scalars and empty arrays") {
  const Handle dump = created();
  const std::uint64_t none[] = {0, 4};
  const float scalar = 2;
  std::size_t size = 0;
  void* bytes = nullptr;
  REQUIRE(kvzip_compress_memory(dump.get(), "int8", &bytes, &size) == KVZIP_OK);
  CHECK(kvzip_tensor_count(opened(bytes, size).get()) == 0);
  kvzip_free(bytes);
  CHECK(kvzip_read_all(dump.get(), nullptr, 0) == KVZIP_OK);
  CHECK(kvzip_add(dump.get(), "empty", "F16", 2, none, nullptr, 0) == KVZIP_OK);
  CHECK(kvzip_add(dump.get(), "scalar", "F32", 0, nullptr, &scalar, 4) == KVZIP_OK);
  REQUIRE(kvzip_compress_memory(dump.get(), "int8", &bytes, &size) == KVZIP_OK);
  {
    const Handle read = opened(bytes, size);
    float back = 0;
    CHECK(kvzip_read(read.get(), 0, nullptr, 0) == KVZIP_OK);
    CHECK(kvzip_read(read.get(), 1, &back, sizeof back) == KVZIP_OK);
    CHECK(back == scalar);
  }
  kvzip_free(bytes);
}

TEST_CASE("C: reads that cannot be") {
  const Small small;
  const Coded coded(small, "int8");
  const Handle read = opened(coded.bytes, coded.size);
  std::vector<float> room(kHeads * kTokens * kDim);
  CHECK(kvzip_read(read.get(), 3, room.data(), kTensorBytes) == KVZIP_INVALID);
  CHECK(kvzip_read(read.get(), 0, room.data(), kTensorBytes - 1) == KVZIP_INVALID);
  CHECK(says("a buffer of"));
  CHECK(kvzip_read(read.get(), 0, nullptr, kTensorBytes) == KVZIP_INVALID);
  CHECK(kvzip_read_tokens(read.get(), 0, 5, 4, room.data(), kTensorBytes) == KVZIP_INVALID);
  CHECK(kvzip_read_tokens(read.get(), 0, 0, kTokens + 1, room.data(), kTensorBytes) == KVZIP_INVALID);
  CHECK(kvzip_read_tokens(read.get(), 0, UINT64_MAX, UINT64_MAX, room.data(), kTensorBytes) == KVZIP_INVALID);
  CHECK(kvzip_read_tokens(read.get(), 2, 0, 1, room.data(), kTensorBytes) == KVZIP_INVALID);
  CHECK(says("no axis of tokens"));
  void* const buffers[] = {nullptr, nullptr, nullptr};
  CHECK(kvzip_read_all(read.get(), buffers, 2) == KVZIP_INVALID);
  CHECK(kvzip_read_all(read.get(), nullptr, 3) == KVZIP_INVALID);
  std::size_t index = 0;
  CHECK(kvzip_find(read.get(), "nothing", &index) == KVZIP_INVALID);
  CHECK(kvzip_find(read.get(), nullptr, &index) == KVZIP_INVALID);
  CHECK(kvzip_find(read.get(), "token_ids", nullptr) == KVZIP_INVALID);
  // What was opened is not added to.
  CHECK(add(read, "more", small.key) == KVZIP_INVALID);
  CHECK(kvzip_set_metadata(read.get(), "a", "b") == KVZIP_INVALID);
}

TEST_CASE("C: damaged and cut containers") {
  const Small small;
  const Coded coded(small, "int8");
  std::vector<std::byte> bytes(static_cast<const std::byte*>(coded.bytes),
                               static_cast<const std::byte*>(coded.bytes) + coded.size);
  kvzip_dump* dump = nullptr;
  CHECK(kvzip_open_memory(bytes.data(), bytes.size() / 2, &dump) == KVZIP_TRUNCATED);
  CHECK(dump == nullptr);
  CHECK(kvzip_open_memory(bytes.data(), 0, &dump) != KVZIP_OK);
  bytes[0] = std::byte{0};
  CHECK(kvzip_open_memory(bytes.data(), bytes.size(), &dump) != KVZIP_OK);
  bytes[0] = static_cast<const std::byte*>(coded.bytes)[0];
  // Somewhere in the frames: one of the two reads meets it.
  bytes[bytes.size() / 2] ^= std::byte{1};
  const Handle read = opened(bytes.data(), bytes.size());
  std::vector<float> room(kHeads * kTokens * kDim);
  const int key = kvzip_read(read.get(), 0, room.data(), kTensorBytes);
  const int value = kvzip_read(read.get(), 1, room.data(), kTensorBytes);
  CHECK((key == KVZIP_CORRUPT || value == KVZIP_CORRUPT));
  void* const buffers[] = {room.data(), nullptr, nullptr};
  CHECK(kvzip_read_all(read.get(), buffers, 3) == KVZIP_CORRUPT);
}

TEST_CASE("C: null pointers are errors") {
  kvzip_dump* dump = nullptr;
  CHECK(kvzip_open(nullptr, &dump) == KVZIP_INVALID);
  CHECK(kvzip_open("x", nullptr) == KVZIP_INVALID);
  CHECK(kvzip_open_memory(nullptr, 5, &dump) == KVZIP_INVALID);
  CHECK(kvzip_new(nullptr) == KVZIP_INVALID);
  CHECK(kvzip_set_layout(nullptr, "HTD") == KVZIP_INVALID);
  CHECK(kvzip_add_map(nullptr, "a=key:HTD") == KVZIP_INVALID);
  CHECK(kvzip_set_metadata(nullptr, "a", "b") == KVZIP_INVALID);
  CHECK(kvzip_set_threads(nullptr, 1) == KVZIP_INVALID);
  CHECK(kvzip_tensor_count(nullptr) == 0);
  CHECK(kvzip_tensor_at(nullptr, 0) == nullptr);
  CHECK(kvzip_metadata_name(nullptr, 0) == nullptr);
  CHECK(kvzip_metadata_value(nullptr, 0) == nullptr);
  CHECK(kvzip_read(nullptr, 0, nullptr, 0) == KVZIP_INVALID);
  CHECK(kvzip_read_tokens(nullptr, 0, 0, 0, nullptr, 0) == KVZIP_INVALID);
  CHECK(kvzip_read_all(nullptr, nullptr, 0) == KVZIP_INVALID);
  CHECK(kvzip_compress(nullptr, nullptr, "x", 0) == KVZIP_INVALID);
  const Handle some = created();
  void* bytes = nullptr;
  CHECK(kvzip_set_layout(some.get(), nullptr) == KVZIP_INVALID);
  CHECK(kvzip_add_map(some.get(), nullptr) == KVZIP_INVALID);
  CHECK(kvzip_compress(some.get(), nullptr, nullptr, 0) == KVZIP_INVALID);
  CHECK(kvzip_compress_memory(some.get(), nullptr, nullptr, nullptr) == KVZIP_INVALID);
  CHECK(kvzip_compress_memory(some.get(), nullptr, &bytes, nullptr) == KVZIP_INVALID);
  CHECK(says("size is a null pointer"));
  kvzip_close(nullptr);
  kvzip_free(nullptr);
}

}  // namespace
}  // namespace kvzip::test
