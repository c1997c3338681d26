// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <string>

#include "formats/map_rules.hpp"
#include "kvzip/error.hpp"
#include "kvzip/layout.hpp"

using namespace kvzip;

namespace {

bool invalid(const std::string& text) {
  try {
    parse_map_rule(text);
  } catch (const Error& e) {
    return e.code() == ErrorCode::invalid_argument;
  }
  return false;
}

}  // namespace

TEST_CASE("--map rules as text") {
  const MapRule rule = parse_map_rule("layers.{L}.k=v=key:BHTD");
  CHECK(rule.pattern == "layers.{L}.k=v");
  CHECK(rule.role == Role::key);
  CHECK(rule.axes == "BHTD");
  CHECK(parse_map_rule("x=other").role == Role::other);
  CHECK(parse_map_rule("x=other:").axes.empty());
  for (const char* bad : {"", "x", "=key:TC", "x=", "x=key", "x=key:", "x=keys:TC", "x=key:TX", "x=other:TC",
                          "x=key:2TC", "x=kv:TC", "{L}{L}=key:TC"}) {
    CAPTURE(bad);
    CHECK(invalid(bad));
  }
}

TEST_CASE("globs") {
  const auto layer = [](std::string_view pattern, std::string_view name) {
    const auto match = match_glob(pattern, name);
    return !match ? -2 : match->layer ? static_cast<int>(*match->layer) : -1;
  };
  CHECK(layer("", "") == -1);
  CHECK(layer("*", "") == -1);
  CHECK(layer("", "a") == -2);
  CHECK(layer("a?c", "abc") == -1);
  CHECK(layer("a?c", "ac") == -2);
  CHECK(layer("*b*d", "abcbd") == -1);
  CHECK(layer("*b*d", "abcbde") == -2);
  CHECK(layer("k{L}", "k12") == 12);
  CHECK(layer("*{L}.k", "layers12.k") == 12);
  CHECK(layer("*.{L}.*", "a.x.7.y") == 7);
  CHECK(layer("*{L}", "a1b22") == 22);
  CHECK(layer("?{L}", "12") == -2);
  CHECK(layer("k{L}", "k") == -2);
  CHECK(layer("k{L}", "k99999999999") == -2);
  CHECK(layer("{L", "{L") == -1);
  const std::string stars = std::string(200, '*') + "x", name(20000, 'a');
  CHECK(layer(stars, name) == -2);
  CHECK(layer("*a*a*a*a*{L}b", std::string(20000, '1')) == -2);
}
