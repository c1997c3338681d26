// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <string>

#include "kvzip/axes.hpp"
#include "kvzip/error.hpp"

namespace kvzip {
namespace {

TEST_CASE("axes: letters of seven, each at most once, in any order") {
  for (const std::string text : {"", "T", "HTD", "2LBTHD", "BL2HTDC"}) {
    REQUIRE(Axes::parse(text));
    CHECK(Axes::parse(text)->text() == text);
    CHECK(Axes::parse(text)->size() == text.size());
  }
  for (const char* text : {"X", "HTDX", "h", "TT", "BL2HTDCB", "H T"}) {
    CHECK_FALSE(Axes::parse(text));
    CHECK_THROWS_AS(Axes{text}, Error);
  }
}

TEST_CASE("axes: places, extents and kinds") {
  const Axes axes = "LHTD";
  CHECK(axes.find('L') == 0);
  CHECK(axes.find('D') == 3);
  CHECK(axes.find('B') == Axes::npos);
  CHECK(axes.extent('T', {2, 4, 100, 64}) == 100);
  CHECK(axes.extent('B', {2, 4, 100, 64}) == 1);
  CHECK(axes.with(0, 'B') == Axes("BHTD"));
  CHECK_THROWS_AS(axes.with(0, 'T'), Error);
  std::string inside;
  for (const char axis : Axes::kLetters) inside += Axes::is_inside(axis) ? axis : '-';
  CHECK(inside == "---HTDC");
}

TEST_CASE("axes: a matrix has tokens and one kind of channels") {
  for (const char* text : {"HTD", "TD", "TC", "2TC", "DT"}) CHECK(Axes(text).has_matrix());
  for (const char* text : {"", "T", "HD", "TDC", "HTC", "LBH"}) CHECK_FALSE(Axes(text).has_matrix());
}

}  // namespace
}  // namespace kvzip
