// SPDX-License-Identifier: Apache-2.0
// Where the heads of a dump are: what a short file may claim.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include "formats/head_rows.hpp"
#include "kvzip/error.hpp"

using namespace kvzip;
using namespace kvzip;

TEST_CASE("heads: layers and sequences that a short file claims are limited") {
  const auto heads = [](const std::vector<std::uint64_t>& shape, std::size_t tensors) {
    Dump dump;
    Recognition recognition;
    for (std::size_t i = 0; i < tensors; ++i) {
      dump.tensors.push_back({fmt::format("t{}", i), DType::f16, shape});
      recognition.tensors.push_back({Role::key, 0, "BHTD", ""});
    }
    return find_heads(dump, recognition, 0).size();
  };
  CHECK(heads({3, 1, 1, 1}, 1) == 3);
  // 2^20 together: beyond it in one tensor, and in several.
  for (const auto& [batch, tensors] :
       {std::pair<std::uint64_t, std::size_t>{(1u << 20) + 1, 1}, {1u << 22, 1}, {1u << 19, 3}}) {
    try {
      heads({batch, 1, 1, 1}, tensors);
      FAIL("taken");
    } catch (const Error& error) {
      CHECK(error.code() == ErrorCode::limit);
    }
  }
}
