// SPDX-License-Identifier: Apache-2.0
#include "formats/sidecar.hpp"

#include <doctest/doctest.h>

#include <fstream>

#include "codec/limits.hpp"
#include "tests/unit/file_support.hpp"

namespace kvzip::test {
namespace {

void write(const std::string& path, std::string_view text) {
  std::ofstream(path, std::ios::binary) << text;
}

std::string refusal(std::string_view text, ErrorCode code = ErrorCode::corrupt) {
  try {
    parse_sidecar(text);
  } catch (const Error& error) {
    CHECK(error.code() == code);
    return error.what();
  }
  FAIL_CHECK("taken: " << text);
  return {};
}

}  // namespace

TEST_CASE(
    "a sidecar says a layout, an order and metadata, each of which may "
    "be missing") {
  const Sidecar all = parse_sidecar(
      R"({"raw": "kv:2LTC:bf16:2x3x-x16", "files": ["b.bin", "a.bin"], "metadata": {"model": "m", "note": ""}})");
  REQUIRE(all.raw);
  CHECK(all.raw->role == Role::pair);
  CHECK(all.raw->axes == Axes("2LTC"));
  CHECK(all.raw->dtype == DType::bf16);
  CHECK(all.files == std::vector<std::string>{"b.bin", "a.bin"});
  REQUIRE(all.attributes.size() == 2);
  CHECK(all.attributes[0] == Attribute{"", "model", {"m"}, {}, {}, {}});
  CHECK(all.attributes[1] == Attribute{"", "note", {""}, {}, {}, {}});

  const Sidecar none = parse_sidecar("{}");
  CHECK(!none.raw);
  CHECK(none.files.empty());
  CHECK(none.attributes.empty());
}

TEST_CASE("a sidecar that says something else is refused, by what it says") {
  for (const char* text : {"", "[]", "null", "\"raw\"", "{", "{\"raw\":", "{} {}"}) {
    CAPTURE(text);
    CHECK(refusal(text).starts_with("expected an object of \"raw\""));
  }
  CHECK(refusal(R"({"raw": 1})").starts_with("'raw': expected"));
  CHECK(refusal(R"({"order": []})").starts_with("'order': expected"));
  for (const char* text : {R"({"files": []})", R"({"files": {}})", R"({"files": "a"})", R"({"files": [1]})"}) {
    CAPTURE(text);
    CHECK(refusal(text) == "\"files\" is no list of names");
  }
  for (const char* name : {"", ".", "..", "../x", "a/b", "/etc/passwd", "a\\u0000b"}) {
    CAPTURE(name);
    const std::string text = std::string(R"({"files": [")") + name + "\"]}";
    CHECK(refusal(text).ends_with("in \"files\" is not the name of a file in this folder"));
  }
  CHECK(refusal(R"({"files": ["a", "b", "a"]})") == "'a' is twice in \"files\"");
  for (const char* text : {R"({"metadata": []})", R"({"metadata": {"a": 1}})", R"({"metadata": {"": "a"}})"}) {
    CAPTURE(text);
    CHECK(refusal(text) == "\"metadata\" is no object of texts");
  }
  CHECK(refusal(R"({"metadata": {"axes": "THD"}})").find("said by \"raw\"") != std::string::npos);
  // As for --raw on the command line.
  CHECK_THROWS_AS(parse_sidecar(R"({"raw": "kv:2LTC"})"), Error);
}

TEST_CASE(
    "sidecars that are made to cost memory or depth are refused before "
    "they are parsed") {
  CHECK(refusal(std::string(100000, '[')).find("nested lists") != std::string::npos);
  CHECK(refusal("{\"metadata\": " + std::string(500, '{')).find("nested lists") != std::string::npos);
  std::string many = "{\"files\": [";
  for (std::uint64_t i = 0; i < limits::kJsonItems; ++i) many += "0,";
  CHECK(refusal(many, ErrorCode::limit).find("values") != std::string::npos);

  const ScratchDirectory scratch;
  const std::string path = scratch.file("page.bin");
  // Just a MiB is read, a byte more is not.
  std::string text = R"({"metadata": {"model": "m"}})";
  text.resize(1 << 20, ' ');
  write(path + ".kvzip.json", text);
  REQUIRE(sidecar_of_file(path));
  CHECK(sidecar_of_file(path)->attributes.size() == 1);
  write(path + ".kvzip.json", text + ' ');
  try {
    sidecar_of_file(path);
    FAIL_CHECK("taken");
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::limit);
    CHECK(error.file() == path + ".kvzip.json");
  }
}

TEST_CASE("a file's own sidecar goes before that of its folder") {
  const ScratchDirectory scratch;
  const std::string one = scratch.file("one.bin"), other = scratch.file("other.bin");
  CHECK(!sidecar_of_file(one));
  write(scratch.file("kvzip.json"), R"({"metadata": {"of": "folder"}})");
  write(one + ".kvzip.json", R"({"metadata": {"of": "file"}})");
  CHECK(sidecar_of_file(one)->attributes[0].strings[0] == "file");
  CHECK(sidecar_of_file(other)->attributes[0].strings[0] == "folder");
  CHECK(sidecar_of_folder(one.substr(0, one.rfind('/')))->attributes[0].strings[0] == "folder");
}

}  // namespace kvzip::test
