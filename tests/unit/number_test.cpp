// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cstdint>
#include <string>

#include "codec/number.hpp"
#include "codec/splitmix64.hpp"

namespace kvzip {
namespace {

TEST_CASE("numbers: the whole text, within the range of its type and the one that was asked for") {
  CHECK(parse_number<std::uint32_t>("0") == 0u);
  CHECK(parse_number<std::uint32_t>("4294967295") == 4294967295u);
  for (const char* bad : {"", " 1", "1 ", "+1", "-1", "0x1", "1.0", "1e3", "4294967296", "99999999999999999999"}) {
    CHECK_FALSE(parse_number<std::uint32_t>(bad));
  }
  CHECK(parse_number<std::uint64_t>("7", 7, 7) == 7u);
  CHECK_FALSE(parse_number<std::uint64_t>("6", 7, 7));
  CHECK_FALSE(parse_number<std::uint64_t>("8", 7, 7));
  CHECK(parse_number<double>("1e-3") == 0.001);
  CHECK(parse_number<double>("-2.5") == -2.5);
  for (const char* bad : {"", "nan", "inf", "-inf", "1e999", "1,5", "2.5x"}) CHECK_FALSE(parse_number<double>(bad));
  CHECK_FALSE(parse_number<double>("-0.1", 0));
}

TEST_CASE("splitmix64: the numbers of its authors' code") {
  // The reference implementation (prng.di.unimi.it/splitmix64.c) from seed 1234567.
  CHECK(splitmix64(1234567, 0) == 6457827717110365317u);
  CHECK(splitmix64(1234567, 1) == 3203168211198807973u);
  CHECK(splitmix64(1234567, 2) == 9817491932198370423u);
}

}  // namespace
}  // namespace kvzip
