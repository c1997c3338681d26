// SPDX-License-Identifier: Apache-2.0
// Dumps and containers through the C interface.
#pragma once

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "kvzip/kvzip.h"

namespace kvzip::test {

using Handle = std::unique_ptr<kvzip_dump, decltype(&kvzip_close)>;

constexpr std::uint64_t kHeads = 2, kTokens = 40, kDim = 8, kTensorBytes = kHeads * kTokens * kDim * sizeof(float);

inline std::vector<float> wave(float step) {
  std::vector<float> out(kHeads * kTokens * kDim);
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = std::sin(step * static_cast<float>(i));
  return out;
}

inline Handle created() {
  kvzip_dump* dump = nullptr;
  REQUIRE(kvzip_new(&dump) == KVZIP_OK);
  return {dump, &kvzip_close};
}

inline Handle opened(const void* bytes, std::size_t size) {
  kvzip_dump* dump = nullptr;
  REQUIRE(kvzip_open_memory(bytes, size, &dump) == KVZIP_OK);
  return {dump, &kvzip_close};
}

inline int add(const Handle& dump, const char* name, const std::vector<float>& data) {
  const std::uint64_t shape[] = {kHeads, kTokens, kDim};
  return kvzip_add(dump.get(), name, "F32", 3, shape, data.data(), data.size() * sizeof(float));
}

/// Keys, values and token ids.
struct Small {
  std::vector<float> key = wave(0.01f), value = wave(0.37f);
  std::vector<std::int64_t> ids = std::vector<std::int64_t>(kTokens, 7);
  Handle dump = created();

  Small() {
    REQUIRE(add(dump, "layers.3.key", key) == KVZIP_OK);
    REQUIRE(add(dump, "layers.3.value", value) == KVZIP_OK);
    REQUIRE(kvzip_add(dump.get(), "token_ids", "I64", 1, &kTokens, ids.data(), ids.size() * 8) == KVZIP_OK);
    REQUIRE(kvzip_set_metadata(dump.get(), "model", "small") == KVZIP_OK);
    REQUIRE(kvzip_set_layout(dump.get(), "HTD") == KVZIP_OK);
  }
};

/// The bytes of a container, which end with it.
struct Coded {
  void* bytes = nullptr;
  std::size_t size = 0;
  explicit Coded(const Small& small, const char* preset) {
    REQUIRE(kvzip_compress_memory(small.dump.get(), preset, &bytes, &size) == KVZIP_OK);
  }
  Coded(const Coded&) = delete;
  Coded& operator=(const Coded&) = delete;
  ~Coded() { kvzip_free(bytes); }
};

inline bool says(const char* text) {
  return std::strstr(kvzip_error(), text) != nullptr;
}

}  // namespace kvzip::test
