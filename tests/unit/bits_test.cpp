// SPDX-License-Identifier: Apache-2.0
// Bits and varints: what is written is read, and nothing past the end is.
#include <doctest/doctest.h>

#include <vector>

#include "codec/bits.hpp"

namespace kvzip {
namespace {

ByteView bytes_of(const std::vector<std::uint8_t>& v) {
  return std::as_bytes(std::span(v));
}

}  // namespace

TEST_CASE("bits go least significant first and end on a byte") {
  ByteWriter out;
  BitWriter bits(out);
  bits.put(0b101, 3);
  bits.put(0, 0);
  bits.put(0b11110, 5);
  bits.put(1, 1);
  bits.close();
  CHECK(out.size() == 2);
  CHECK(out.view()[0] == std::byte{0b11110101});
  CHECK(out.view()[1] == std::byte{1});
  BitReader in(out.view());
  CHECK(in.get(3) == 0b101);
  CHECK(in.get(0) == 0);
  CHECK(in.get(5) == 0b11110);
  CHECK(in.get(1) == 1);
  in.close();
}

TEST_CASE("bits of every width round-trip") {
  ByteWriter out;
  BitWriter writer(out);
  for (int round = 0; round < 3; ++round) {
    for (unsigned width = 0; width <= 32; ++width) {
      writer.put(static_cast<std::uint32_t>(0xdeadbeefu & ((std::uint64_t{1} << width) - 1)), width);
    }
  }
  writer.close();
  BitReader reader(out.view());
  for (int round = 0; round < 3; ++round) {
    for (unsigned width = 0; width <= 32; ++width) {
      CHECK(reader.get(width) == (0xdeadbeefu & ((std::uint64_t{1} << width) - 1)));
    }
  }
  reader.close();
}

TEST_CASE("missing and left-over bits are errors") {
  const std::vector<std::uint8_t> one{0xff}, two{0x01, 0x00};
  BitReader reader(bytes_of(one));
  reader.get(7);
  CHECK_THROWS_AS(reader.close(), Error);  // a set bit
  CHECK_THROWS_AS(reader.get(2), Error);
  BitReader longer(bytes_of(two));
  longer.get(1);
  CHECK_THROWS_AS(longer.close(), Error);  // a whole byte
}

TEST_CASE("varints of every length, and no longer ones") {
  for (unsigned shift = 0; shift < 64; ++shift) {
    for (const std::uint64_t value :
         {std::uint64_t{1} << shift, (std::uint64_t{1} << shift) - 1, ~std::uint64_t{0} >> shift}) {
      ByteWriter out;
      out.put_varint(value);
      ByteReader in(out.view());
      CHECK(in.get_varint() == value);
      in.expect_end();
    }
  }
  const auto code_of = [](const std::vector<std::uint8_t>& bytes) {
    ByteReader in(bytes_of(bytes));
    try {
      in.get_varint();
    } catch (const Error& e) {
      return e.code();
    }
    return ErrorCode::io;
  };
  CHECK(code_of({}) == ErrorCode::truncated);
  CHECK(code_of({0x80}) == ErrorCode::truncated);
  CHECK(code_of({0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02}) == ErrorCode::corrupt);
  CHECK(code_of({0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01}) == ErrorCode::corrupt);
}

TEST_CASE("byte readers take no more than there is") {
  const std::vector<std::uint8_t> bytes{1, 2, 3, 4, 5};
  ByteReader in(bytes_of(bytes));
  CHECK(in.get<std::uint16_t>() == 0x0201);
  CHECK(in.left() == 3);
  CHECK_THROWS_AS(in.get<std::uint32_t>(), Error);
  CHECK_THROWS_AS(in.take(~std::uint64_t{0}), Error);
  CHECK_THROWS_AS(in.expect_end(), Error);
  CHECK(in.take(3).size() == 3);
  in.expect_end();
}

}  // namespace kvzip
