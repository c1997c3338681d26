// SPDX-License-Identifier: Apache-2.0
#include "codec/nearest.hpp"

#include <doctest/doctest.h>

#include <array>

namespace kvzip::test {

TEST_CASE("the nearest word is at most two letters away, and shares more than half of a short one") {
  constexpr std::array<std::string_view, 4> known{"quant", "pack", "rans", "ac"};
  CHECK(nearest("qant", known) == "quant");
  CHECK(nearest("quanti", known) == "quant");
  CHECK(nearest("quantum", known) == "quant");
  CHECK(nearest("quantised", known).empty());
  CHECK(nearest("tquna", known).empty());
  CHECK(nearest("rank", known) == "rans");
  CHECK(nearest("pa", known).empty());  // of two letters none may differ
  CHECK(nearest("x", known).empty());
  CHECK(nearest("", known).empty());
  CHECK(nearest("ac", known) == "ac");
  CHECK(nearest(std::string(65, 'a'), known).empty());
  CHECK(did_you_mean("packs", known) == "; did you mean 'pack'?");
  CHECK(did_you_mean("zzz", known).empty());
  CHECK(nearest("RANS", known) == "rans");
}

}  // namespace kvzip::test
