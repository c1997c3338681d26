// SPDX-License-Identifier: Apache-2.0
// The coder `deflate` against zlib itself: its data is what zlib makes of the packed bytes, and zlib alone reads it.
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <zlib.h>

#include "codec/coders/coders.hpp"
#include "kvzip/error.hpp"
#include "tests/contract/sample_tiles.hpp"

namespace kvzip::test {
namespace {

std::unique_ptr<Coder> deflate_coder(int level) {
  auto coder = make_deflate();
  const std::string item = fmt::format("level={}", level);
  const std::vector<std::string_view> items{item};
  parse_fields(*coder, "deflate", items);
  return coder;
}

/// Symbols in 1, 2, 4 or 8 bits, the first in the lowest; elements as they are (man/kvz.5).
std::vector<std::uint8_t> packed(const Stream& s) {
  if (s.type == StreamType::elements) return {s.data.begin(), s.data.end()};
  const unsigned bits = s.alphabet <= 2 ? 1 : s.alphabet <= 4 ? 2 : s.alphabet <= 16 ? 4 : 8;
  std::vector<std::uint8_t> bytes((s.data.size() * bits + 7) / 8);
  for (std::size_t i = 0; i < s.data.size(); ++i) {
    bytes[i * bits / 8] |= static_cast<std::uint8_t>(s.data[i] << i * bits % 8);
  }
  return bytes;
}

Bytes by_zlib(const std::vector<std::uint8_t>& plain, int level) {
  z_stream z{};
  REQUIRE(deflateInit2(&z, level, Z_DEFLATED, -15, 9, Z_DEFAULT_STRATEGY) == Z_OK);
  Bytes out(deflateBound(&z, plain.size()));
  z.next_in = const_cast<Bytef*>(plain.data());
  z.avail_in = static_cast<uInt>(plain.size());
  z.next_out = reinterpret_cast<Bytef*>(out.data());
  z.avail_out = static_cast<uInt>(out.size());
  REQUIRE(deflate(&z, Z_FINISH) == Z_STREAM_END);
  out.resize(z.total_out);
  deflateEnd(&z);
  return out;
}

std::vector<std::uint8_t> read_by_zlib(ByteView coded, std::size_t size) {
  z_stream z{};
  REQUIRE(inflateInit2(&z, -15) == Z_OK);
  std::vector<std::uint8_t> out(size + 1);
  z.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(coded.data()));
  z.avail_in = static_cast<uInt>(coded.size());
  z.next_out = out.data();
  z.avail_out = static_cast<uInt>(out.size());
  CHECK(inflate(&z, Z_FINISH) == Z_STREAM_END);
  out.resize(z.total_out);
  inflateEnd(&z);
  return out;
}

Stream sample(std::uint64_t alphabet, std::uint32_t rows, std::uint32_t cols) {
  Stream s;
  s.type = alphabet == 0 ? StreamType::elements : StreamType::symbols;
  s.alphabet = alphabet;
  s.width = alphabet == 0 ? 2 : 1;
  s.rows = rows;
  s.cols = cols;
  Random random(alphabet + rows);
  const std::uint64_t most = alphabet == 0 ? 40 : alphabet;
  for (std::size_t i = 0; i < s.count() * s.width; ++i) {
    s.data.push_back(static_cast<std::uint8_t>(random.below(random.below(most) + 1)));
  }
  return s;
}

}  // namespace

TEST_CASE("deflate: the body is zlib's raw data over packed bytes") {
  for (const std::uint64_t alphabet : {0u, 2u, 3u, 4u, 5u, 15u, 16u, 17u, 255u, 256u}) {
    for (const int level : {1, 6, 9}) {
      CAPTURE(alphabet);
      CAPTURE(level);
      const Stream s = sample(alphabet, 999, 37);
      Bytes table, body;
      deflate_coder(level)->encode(s, table, body);
      CHECK(table.empty());
      const auto plain = packed(s);
      const Bytes expected = by_zlib(plain, level);
      REQUIRE(body.size() > 1);
      if (body[0] == std::byte{0}) {  // where plain bits are no longer than that
        Bytes pack_table, pack_body;
        make_pack()->encode(s, pack_table, pack_body);
        CHECK(Bytes(body.begin() + 1, body.end()) == pack_body);
        CHECK(expected.size() >= pack_body.size());
        continue;
      }
      CHECK(body[0] == std::byte{1});
      CHECK(Bytes(body.begin() + 1, body.end()) == expected);
      CHECK(read_by_zlib(ByteView(body).subspan(1), plain.size()) == plain);
    }
  }
}

TEST_CASE("deflate: reads what another encoder makes, and refuses every other length") {
  const Stream s = sample(16, 60, 31);
  const auto plain = packed(s);
  const auto decode = [&](const std::vector<std::uint8_t>& bytes, std::size_t cut, std::size_t more) {
    Bytes body = by_zlib(bytes, 0);  // stored blocks: an encoder need not compress
    body.insert(body.begin(), std::byte{1});
    body.resize(body.size() - cut + more);
    Stream back = s;
    back.data.clear();
    deflate_coder(9)->decode(back, {}, body);
    return back.data == s.data;
  };
  CHECK(decode(plain, 0, 0));
  CHECK_THROWS_AS(decode(plain, 1, 0), Error);
  CHECK_THROWS_AS(decode(plain, 0, 1), Error);
  auto longer = plain, shorter = plain;
  longer.push_back(0);
  shorter.pop_back();
  CHECK_THROWS_AS(decode(longer, 0, 0), Error);
  CHECK_THROWS_AS(decode(shorter, 0, 0), Error);
  Stream empty = sample(16, 0, 31);
  Bytes nothing = by_zlib({}, 9);
  nothing.insert(nothing.begin(), std::byte{1});
  CHECK_NOTHROW(deflate_coder(9)->decode(empty, {}, nothing));
  CHECK(empty.data.empty());
}

TEST_CASE("deflate: bits beyond the last symbol and symbols beyond the alphabet are refused") {
  Stream s = sample(3, 1, 5);  // 10 bits
  const auto decode = [&](const std::vector<std::uint8_t>& bytes) {
    Bytes body = by_zlib(bytes, 9);
    body.insert(body.begin(), std::byte{1});
    Stream back = s;
    back.data.clear();
    deflate_coder(9)->decode(back, {}, body);
  };
  auto bytes = packed(s);
  CHECK_NOTHROW(decode(bytes));
  bytes[1] |= 4;
  CHECK_THROWS_AS(decode(bytes), Error);
  bytes = packed(s);
  bytes[0] |= 3;
  CHECK_THROWS_AS(decode(bytes), Error);
}

TEST_CASE("deflate: a long run cannot make a decoder produce more than was asked for") {
  const Bytes bomb = by_zlib(std::vector<std::uint8_t>(1 << 24), 9);
  Bytes body = bomb;
  body.insert(body.begin(), std::byte{1});
  Stream s = sample(256, 10, 10);
  s.data.clear();
  CHECK_THROWS_AS(deflate_coder(9)->decode(s, {}, body), Error);
}

}  // namespace kvzip::test
