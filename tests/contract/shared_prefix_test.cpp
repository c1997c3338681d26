// SPDX-License-Identifier: Apache-2.0
// Headers that name another container for their first tokens: what is no name beside the file is refused before
// anything is opened. What comes back, and what is said of a base that is gone or changed, is
// tests/cli/share_prefix.sh.
#include <doctest/doctest.h>

#include "formats/kvz/kvz.hpp"
#include "tests/contract/hostile_containers.hpp"

namespace kvzip::test {
namespace {

Bytes naming(const std::string& file, std::uint64_t tokens, unsigned features = kSharedFeature) {
  return with_header(
      [&](Json& header) {
        header["base"] = {{"file", file}, {"tokens", tokens}, {"bytes", 1000}, {"hash", 7}};
      },
      1, features);
}

}  // namespace

TEST_CASE("shared prefixes: names of bases are of files in the same folder") {
  for (const std::string_view name : {"a", "a.kvz", "..a", "a b", "\xc3\xa9.kvz"}) CHECK(is_base_name(name));
  const std::string long_name(256, 'a');
  for (const std::string_view name :
       {std::string_view(""), std::string_view("."), std::string_view(".."), std::string_view("../a"),
        std::string_view("/a"), std::string_view("a/b"), std::string_view("a\\b"), std::string_view("a\nb"),
        std::string_view("a\0b", 3), std::string_view("\x7f"), std::string_view("\xff"), std::string_view(long_name)}) {
    CAPTURE(name);
    CHECK_FALSE(is_base_name(name));
  }
}

TEST_CASE("shared prefixes: headers that lie about a base are refused") {
  for (const char* name : {"", ".", "..", "../a", "/etc/passwd", "a/b", "a\nb"}) {
    CAPTURE(name);
    CHECK(by_index(naming(name, 2)).code == ErrorCode::corrupt);
  }
  CHECK(by_index(naming("a.kvz", 0)).code == ErrorCode::corrupt);
  for (const char* member : {"file", "tokens", "bytes", "hash"}) {
    const Bytes without = with_header(
        [&](Json& header) {
          header["base"] = {{"file", "a"}, {"tokens", 1}, {"bytes", 1000}, {"hash", 7}};
          header["base"].erase(member);
        },
        1, kSharedFeature);
    CHECK(by_index(without).code == ErrorCode::corrupt);
  }
  CHECK(by_index(with_header([](Json&) {}, 1, kSharedFeature)).code == ErrorCode::corrupt);
  const Outcome gone = by_index(naming("a.kvz", 2));
  CHECK(gone.code == ErrorCode::io);
  CHECK(gone.message.find("a.kvz") != std::string::npos);
  // Without the flag nobody looks; from a pipe there is nowhere to look.
  CHECK_FALSE(by_index(naming("../a", 2, 0)).code.has_value());
  CHECK(as_stream(naming("a.kvz", 2)).code == ErrorCode::unsupported);
}

}  // namespace kvzip::test
