// SPDX-License-Identifier: Apache-2.0
// Headers that name another container for their first tokens: what is no name beside the file is refused before
// anything is opened. What comes back, and what is said of a base that is gone or changed, is
// tests/cli/share_prefix.sh.
#include <doctest/doctest.h>

#include "formats/kvz/kvz.hpp"
#include "tests/contract/hostile_containers.hpp"
#include "tests/support/tar_bytes.hpp"
#include "tests/unit/scratch_directory.hpp"

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

TEST_CASE("shared prefixes: in a collection, bases are among its members alone") {
  const ScratchDirectory scratch;
  const auto text = [](const Bytes& bytes) {
    return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  };
  const auto opened = [&](const std::vector<std::pair<std::string, Bytes>>& members, const std::string& name) {
    std::string archive;
    for (const auto& [as, bytes] : members) archive += tar_entry({as, text(bytes)});
    const std::string path = scratch.file("all.kvz.tar", archive + kTarEnd);
    return outcome([&] { return open_kvz(path + "/" + name); });
  };
  auto first = sample_reader(sample_specs(1, 6)), rest = sample_reader(sample_specs(1, 3));
  KvzOptions options = options_of("key = quant:bits=4,pack\nvalue = planes,ac", 2);
  const Bytes base = compressed(*first, options);
  const std::string beside = scratch.file("a.kvz", text(base));
  options.base = base_of(beside, 5);
  rest->stated->model.rope.first_position = 5;
  const Bytes own = compressed(*rest, options);
  CHECK_FALSE(opened({{"a.kvz", base}, {"b.kvz", own}}, "b.kvz").code.has_value());
  CHECK_FALSE(opened({{"b.kvz", own}, {"a.kvz", base}}, "b.kvz").code.has_value());
  // What stands beside the collection is none of its members.
  const Outcome gone = opened({{"b.kvz", own}}, "b.kvz");
  CHECK(gone.code == ErrorCode::io);
  CHECK(gone.message.find("all.kvz.tar/a.kvz: not here, and the first 5 tokens of") != std::string::npos);
  CHECK(opened({{"b.kvz", own}, {"a.kvz", own}}, "b.kvz").code == ErrorCode::corrupt);
  // Loops, and names that lead out.
  CHECK(opened({{"a.kvz", naming("a.kvz", 2)}}, "a.kvz").code == ErrorCode::corrupt);
  CHECK(opened({{"a.kvz", naming("b.kvz", 2)}, {"b.kvz", naming("a.kvz", 2)}}, "a.kvz").code == ErrorCode::corrupt);
  CHECK(opened({{"a.kvz", naming("../a.kvz", 2)}}, "a.kvz").code == ErrorCode::corrupt);
}

TEST_CASE("shared prefixes: a base may grow, and is what it was") {
  const ScratchDirectory scratch;
  const auto write = [&](const std::string& name, ByteView bytes) {
    return scratch.file(name, {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  };
  const auto both = [](ByteView a, ByteView b) {
    Bytes out(a.begin(), a.end());
    out.insert(out.end(), b.begin(), b.end());
    return out;
  };
  auto first = sample_reader(sample_specs(1, 6)), rest = sample_reader(sample_specs(1, 3));
  KvzOptions options = options_of("key = quant:bits=4,pack\nvalue = planes,ac", 2);
  const Bytes base = compressed(*first, options);
  const std::string a = write("a.kvz", base);
  options.base = base_of(a, 5);
  rest->stated->model.rope.first_position = 5;
  const Bytes own = compressed(*rest, options);
  const std::string b = write("b.kvz", own);
  const std::vector<Bytes> good = values_of(*open_kvz(b));
  options.base.reset();
  auto more = sample_reader(sample_specs(1, 3));
  for (int turn = 0; turn < 2; ++turn) {
    append_kvz(a, *more, *more->recognition(), options, 1);
    CHECK(values_of(*open_kvz(b)) == good);
  }
  // Whatever of what was appended is there; a change of what was there is seen, and one of what follows only where it
  // no longer is an append to it.
  const Bytes grown = [&] {
    Bytes all(InputFile(a).size());
    InputFile(a).read_at(0, all);
    return all;
  }();
  REQUIRE(grown.size() > base.size() + 200);
  for (std::size_t length = base.size(); length <= grown.size(); length += 17) {
    CAPTURE(length);
    write("a.kvz", ByteView(grown).first(length));
    CHECK(values_of(*open_kvz(b)) == good);
  }
  std::size_t refused = 0;
  for (std::size_t at = 0; at < grown.size(); at += 29) {
    CAPTURE(at);
    Bytes bad = grown;
    bad[at] ^= std::byte{1} << (at % 8);
    write("a.kvz", bad);
    try {
      CHECK(values_of(*open_kvz(b)) == good);
    } catch (const Error&) {
      ++refused;
    }
  }
  CHECK(refused > base.size() / 29 / 2);
  for (const Bytes& bad : {both(base, base), both(base, own), both(base, Bytes(500)), both(base, Bytes(3)),
                           both(ByteView(base).first(base.size() - 1), grown), both(Bytes(40), base)}) {
    write("a.kvz", bad);
    CHECK(outcome([&] { return open_kvz(b); }).code == ErrorCode::corrupt);
  }
  // Nothing is appended to what has a base itself; who does it all the same makes no base.
  write("a.kvz", base);
  KvzOptions chain = options;
  chain.base = base_of(b, 6);
  auto last = sample_reader(sample_specs(1, 2));
  last->stated->model.rope.first_position = 6;
  const std::string c = write("c.kvz", compressed(*last, chain));
  CHECK(values_of(*open_kvz(c)).size() == good.size());
  write("b.kvz", both(own, ByteView(base).first(40)));
  CHECK(outcome([&] { return open_kvz(c); }).code == ErrorCode::corrupt);
}

TEST_CASE("shared prefixes: damage to a container or its base is refused or changes no value") {
  const ScratchDirectory scratch;
  auto first = sample_reader(sample_specs(1, 6)), rest = sample_reader(sample_specs(1, 3));
  const std::string a = scratch.file("a.kvz"), b = scratch.file("b.kvz");
  KvzOptions options = options_of("key = quant:bits=4,pack\nvalue = planes,ac", 2);
  const auto write = [&](const std::string& path, ByteView bytes) {
    scratch.file(path.substr(path.rfind('/') + 1), {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  };
  const Bytes base = compressed(*first, options);
  write(a, base);
  options.base = base_of(a, 5);
  rest->stated->model.rope.first_position = 5;
  const Bytes own = compressed(*rest, options);
  write(b, own);
  const std::vector<Bytes> good = values_of(*open_kvz(b));
  CHECK(good.at(1).size() == 2 * 8 * 4 * 2);
  for (const bool of_base : {false, true}) {
    CAPTURE(of_base);
    const Bytes& whole = of_base ? base : own;
    std::size_t refused = 0, changes = 0;
    const auto check = [&](ByteView bad) {
      write(of_base ? a : b, bad);
      ++changes;
      try {
        CHECK(values_of(*open_kvz(b)) == good);
      } catch (const Error&) {
        ++refused;
      }
    };
    for (std::size_t at = 0; at < whole.size(); at += 5) {  // files written again wait for the disk
      CAPTURE(at);
      Bytes bad = whole;
      bad[at] ^= std::byte{1} << (at % 8);
      check(bad);
      if (at % 3 == 0) check(ByteView(whole).first(at));
    }
    CHECK(refused > changes * 3 / 4);
    write(of_base ? a : b, whole);
  }
  CHECK(values_of(*open_kvz(b)) == good);
}

}  // namespace kvzip::test
