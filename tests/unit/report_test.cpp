// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <limits>

#include "src/report/report.hpp"

using namespace kvzip::tool;

TEST_CASE("report: sizes") {
  CHECK(size_text(0) == "0 B");
  CHECK(size_text(999) == "999 B");
  CHECK(size_text(1000) == "1.00 kB");
  CHECK(size_text(16783744) == "16.78 MB");
  CHECK(size_text(999949) == "999.9 kB");
  CHECK(size_text(999999) == "1.00 MB");
  CHECK(size_text(123456789012) == "123.5 GB");
  CHECK(size_text(std::numeric_limits<std::uint64_t>::max()) == "18.45 EB");
}

TEST_CASE("report: layers and names") {
  CHECK(ranges_text({}) == "-");
  CHECK(ranges_text({4}) == "4");
  CHECK(ranges_text({0, 1, 2, 5, 7, 8}) == "0-2,5,7-8");
  CHECK(name_pattern("layers.12.key", 12) == "layers.#.key");
  CHECK(name_pattern("layers.12.key.1", 1) == "layers.12.key.#");
  CHECK(name_pattern("layers.012", 12) == "layers.012");
  CHECK(name_pattern("7", 7) == "#");
  CHECK(name_pattern("token_ids", {}) == "token_ids");
  CHECK(shape_text({}) == "scalar");
  CHECK(shape_text({2, 1024, 128}) == "2x1024x128");
}

TEST_CASE("report: what files say cannot steer a terminal") {
  CHECK(printable("a\x1b[31mb\n") == "a\\x1b[31mb\\x0a");
  CHECK(printable("\xc2\x9b") == "\\xc2\\x9b");
  CHECK(printable("sch\xc3\xb6n") == "sch\xc3\xb6n");
}

TEST_CASE("report: numbers that do not exist") {
  CHECK(number_text({}) == "-");
  CHECK(number_text(0.123456) == "0.1235");
  CHECK(json_number({}).is_null());
  CHECK(json_number(std::numeric_limits<double>::infinity()).is_null());
  CHECK(json_number(1.5) == 1.5);
  CHECK(!bits_of(5, 0));
  CHECK(*bits_of(5, 10) == 4);
  CHECK(!ratio_of(5, 0));
  CHECK(*ratio_of(6, 3) == 2);
}

TEST_CASE("report: tables stand in columns, whatever the letters") {
  Table table({"name", ">size"});
  table.add({"k\xc3\xb6rper", "1"});
  table.add({"x", "200"});
  CHECK(table.text() == "name    size\nk\xc3\xb6rper     1\nx        200\n");
}
