// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include "formats/text.hpp"

namespace kvzip {
namespace {

TEST_CASE("text for messages") {
  CHECK(kvzip::quoted("layers.0.key") == "'layers.0.key'");
  CHECK(kvzip::quoted("a\x1b[0m\n\x7f") == "'a\\x1b[0m\\x0a\\x7f'");
  CHECK(kvzip::quoted("\xc3\xa9\xff\xc2\x9b") == "'\xc3\xa9\\xff\\xc2\\x9b'");
  CHECK(kvzip::quoted(std::string(1000, 'x')).size() < 200);
  CHECK(is_utf8("\xf0\x9f\x98\x80 \xe2\x82\xac \xc3\xa9"));
  for (const char* bad : {"\x80", "\xc0\xaf", "\xe0\x80\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80",
                          "\xc3", "\xe2\x82", "\xf0\x80\x80\x80"}) {
    CHECK_FALSE(is_utf8(bad));
  }
}

}  // namespace
}  // namespace kvzip
