// SPDX-License-Identifier: Apache-2.0
// Every way a safetensors header can be wrong, one by one.
#include <doctest/doctest.h>

#include "formats/attribute_text.hpp"
#include "formats/safetensors_header.hpp"
#include "tests/unit/safetensors_text.hpp"

namespace kvzip {
namespace {

using test::error_of;
using test::file_text;
using test::open_text;

struct Refused {
  const char* header;
  std::size_t data_bytes;
  ErrorCode code;
  const char* says;
};

void check_refused(const Refused& c) {
  CAPTURE(c.header);
  const auto error = error_of([&] { open_text(file_text(c.header, c.data_bytes)); });
  REQUIRE(error.has_value());
  CHECK(error->code() == c.code);
  CHECK_MESSAGE(std::string_view(error->what()).find(c.says) != std::string_view::npos, error->what());
  CHECK(std::string_view(error->what()).starts_with("memory: "));
}

TEST_CASE("headers that are not JSON as the specification wants it") {
  for (const Refused& c : std::vector<Refused>{
           {"", 0, ErrorCode::corrupt, "must start with '{'"},
           {"        ", 0, ErrorCode::corrupt, "must start with '{'"},
           {" {}", 0, ErrorCode::corrupt, "must start with '{'"},
           {"\n{}", 0, ErrorCode::corrupt, "must start with '{'"},
           {"\xef\xbb\xbf{}", 0, ErrorCode::corrupt, "must start with '{'"},
           {"[]", 0, ErrorCode::corrupt, "must start with '{'"},
           {"{}\n", 0, ErrorCode::corrupt, "only spaces may follow"},
           {"{} \t ", 0, ErrorCode::corrupt, "only spaces may follow"},
           {"{", 0, ErrorCode::corrupt, "not valid JSON"},
           {"{}}", 0, ErrorCode::corrupt, "not valid JSON"},
           {"{}{}", 0, ErrorCode::corrupt, "not valid JSON"},
           {"{} x", 0, ErrorCode::corrupt, "not valid JSON"},
           {"{/**/}", 0, ErrorCode::corrupt, "not valid JSON"},
           {R"({"a":})", 0, ErrorCode::corrupt, "not valid JSON"},
           {R"({a:1})", 0, ErrorCode::corrupt, "not valid JSON"},
           {R"({"a)", 0, ErrorCode::corrupt, "not valid JSON"},
           {"{\"\xff\":1}", 0, ErrorCode::corrupt, "not valid JSON"},
           {"{\"\xed\xa0\x80\":1}", 0, ErrorCode::corrupt, "not valid JSON"},
           {R"({"\ud800":1})", 0, ErrorCode::corrupt, "not valid JSON"},
           {"{\"a\nb\":1}", 0, ErrorCode::corrupt, "not valid JSON"},
       }) {
    check_refused(c);
  }
}

TEST_CASE("entries of the wrong kind") {
  for (const Refused& c : std::vector<Refused>{
           {R"({"a":1})", 0, ErrorCode::corrupt, "'a' must be a JSON object, not 1"},
           {R"({"a":null})", 0, ErrorCode::corrupt, "not null"},
           {R"({"a":[]})", 0, ErrorCode::corrupt, "'a' must be a JSON object, not an array"},
           {R"({"a":"x"})", 0, ErrorCode::corrupt, "not the string 'x'"},
           {R"({"a":true})", 0, ErrorCode::corrupt, "not true"},
           {R"({"__metadata__":1})", 0, ErrorCode::corrupt, "must be a JSON object"},
           {R"({"__metadata__":{"k":1}})", 0, ErrorCode::corrupt, "'k' must be a string, not 1"},
           {R"({"__metadata__":{"k":null}})", 0, ErrorCode::corrupt, "'k' must be a string, not null"},
           {R"({"__metadata__":{"k":{}}})", 0, ErrorCode::corrupt, "'k' must be a string, not an object"},
           {R"({"__metadata__":{"k":["v"]}})", 0, ErrorCode::corrupt, "'k' must be a string, not an array"},
           {R"({"a":{"dtype":1}})", 0, ErrorCode::corrupt, "'a': dtype must be a string, not 1"},
           {R"({"a":{"dtype":["U8"]}})", 0, ErrorCode::corrupt, "dtype must be a string, not an array"},
           {R"({"a":{"dtype":"u8"}})", 0, ErrorCode::unsupported, "unknown dtype 'u8'"},
           {R"({"a":{"dtype":"F8E4M3FNU"}})", 0, ErrorCode::unsupported, "unknown dtype"},
           {R"({"a":{"shape":1}})", 0, ErrorCode::corrupt, "shape must be an array, not 1"},
           {R"({"a":{"shape":"1"}})", 0, ErrorCode::corrupt, "shape must be an array"},
           {R"({"a":{"shape":{}}})", 0, ErrorCode::corrupt, "shape must be an array, not an object"},
           {R"({"a":{"shape":[[1]]}})", 0, ErrorCode::corrupt, "shape must hold whole numbers"},
           {R"({"a":{"shape":[{}]}})", 0, ErrorCode::corrupt, "shape must hold whole numbers"},
           {R"({"a":{"shape":["1"]}})", 0, ErrorCode::corrupt, "shape must hold whole numbers"},
           {R"({"a":{"shape":[-1]}})", 0, ErrorCode::corrupt, "not -1"},
           {R"({"a":{"shape":[-0]}})", 0, ErrorCode::corrupt, "shape must hold whole numbers"},
           {R"({"a":{"shape":[1.0]}})", 0, ErrorCode::corrupt, "not 1.0"},
           {R"({"a":{"shape":[1e2]}})", 0, ErrorCode::corrupt, "not 1e2"},
           {R"({"a":{"shape":[null]}})", 0, ErrorCode::corrupt, "not null"},
           {R"({"a":{"shape":[9223372036854775808]}})", 0, ErrorCode::corrupt, "not 9223372036854775808"},
           {R"({"a":{"shape":[18446744073709551616]}})", 0, ErrorCode::corrupt, "not 18446744073709551616"},
           {R"({"a":{"data_offsets":[0,1,2]}})", 0, ErrorCode::corrupt, "data_offsets must hold two numbers, not more"},
           {R"({"a":{"data_offsets":[0,-1]}})", 0, ErrorCode::corrupt, "data_offsets must hold whole numbers"},
           {R"({"a":{"extra":1}})", 0, ErrorCode::corrupt, "unknown key 'extra'"},
           {R"({"a":{"strides":[1]}})", 0, ErrorCode::corrupt, "unknown key 'strides'"},
           {R"({"a":{"\u001b[31m":1}})", 0, ErrorCode::corrupt, "unknown key '\\x1b[31m'"},
       }) {
    check_refused(c);
  }
}

TEST_CASE("what LMCache adds to an entry is kept and comes back") {
  std::string header =
      R"({"kvcache":{"dtype":"F8E4M3FN","shape":[2,3],"data_offsets":[0,6],"fmt":2,"shapes":[[2,3],[]],)"
      R"("__metadata__":{"lmcache_version":"1","x":[null,true,-1,1.5]}}})";
  header.resize(4096 - 8, ' ');
  const auto reader = open_text(file_text(header, 6));
  const Dump& dump = reader->dump();
  REQUIRE(dump.tensors.size() == 1);
  CHECK(dump.tensors[0].dtype == DType::f8_e4m3);
  REQUIRE(dump.attributes.size() == 4);
  CHECK(dump.attributes[0].object == "kvcache");
  CHECK(dump.attributes[1].name == "safetensors:fmt");
  CHECK(dump.attributes[1].strings == std::vector<std::string>{"2"});
  CHECK(safetensors_header_text(dump) == header);
  for (const Refused& c : std::vector<Refused>{
           {R"({"a":{"fmt":1,"fmt":2}})", 0, ErrorCode::corrupt, "the key 'fmt' is there twice"},
           {R"({"a":{"fmt":1}})", 0, ErrorCode::corrupt, "the key dtype is missing"},
           {R"({"a":{"shapes":[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]}})", 0, ErrorCode::limit, "nested too deeply"},
           {R"({"a":{"shapes":{"a":[1,{"fmt")", 0, ErrorCode::corrupt, "not valid JSON"},
       }) {
    check_refused(c);
  }
}

TEST_CASE("missing and repeated keys") {
  constexpr auto kTwice = "is there twice";
  for (
      const Refused& c : std::vector<Refused>{
          {R"({"a":{}})", 0, ErrorCode::corrupt, "'a': the key dtype is missing"},
          {R"({"a":{"shape":[1],"data_offsets":[0,1]}})", 1, ErrorCode::corrupt, "dtype is missing"},
          {R"({"a":{"dtype":"U8","data_offsets":[0,1]}})", 1, ErrorCode::corrupt, "shape is missing"},
          {R"({"a":{"dtype":"U8","shape":[1]}})", 1, ErrorCode::corrupt, "data_offsets is missing"},
          {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[]}})", 1, ErrorCode::corrupt, "not 0"},
          {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0]}})", 1, ErrorCode::corrupt, "not 1"},
          {R"({"a":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 1, ErrorCode::corrupt, kTwice},
          {R"({"a":{"dtype":"U8","shape":[1],"shape":[1],"data_offsets":[0,1]}})", 1, ErrorCode::corrupt, kTwice},
          {R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0],"data_offsets":[0,0]}})", 0, ErrorCode::corrupt,
           kTwice},
          {R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})",
           0, ErrorCode::corrupt, "the key 'a' is there twice"},
          {R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"\u0061":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})",
           0, ErrorCode::corrupt, "the key 'a' is there twice"},
          {R"({"__metadata__":{"k":"1","j":"2","k":"1"}})", 0, ErrorCode::corrupt, "the key 'k' is there twice"},
          {R"({"__metadata__":{},"__metadata__":{}})", 0, ErrorCode::corrupt, kTwice},
          {R"({"__metadata__":null,"__metadata__":{}})", 0, ErrorCode::corrupt, kTwice},
          {R"({"__metadata__":null,"a":null})", 0, ErrorCode::corrupt, "'a' must be a JSON object, not null"},
      }) {
    check_refused(c);
  }
}

TEST_CASE("sizes and offsets that do not agree") {
  for (
      const Refused& c : std::vector<Refused>{
          {R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[2,0]}})", 2, ErrorCode::corrupt, "run backwards"},
          {R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,3]}})", 3, ErrorCode::corrupt, "U8 [2] needs 2 bytes"},
          {R"({"a":{"dtype":"F32","shape":[],"data_offsets":[0,2]}})", 2, ErrorCode::corrupt, "F32 [] needs 4 bytes"},
          {R"({"a":{"dtype":"F4","shape":[3],"data_offsets":[0,2]}})", 2, ErrorCode::corrupt, "fill whole bytes"},
          {R"({"a":{"dtype":"F6_E2M3","shape":[2],"data_offsets":[0,2]}})", 2, ErrorCode::corrupt, "fill whole bytes"},
          {R"({"a":{"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0]}})", 0, ErrorCode::limit,
           "more elements than fit"},
          {R"({"a":{"dtype":"U64","shape":[4611686018427387904],"data_offsets":[0,0]}})", 0, ErrorCode::limit,
           "more bytes than fit"},
          {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})", 2, ErrorCode::corrupt, "belong to no tensor"},
          {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}})",
           3, ErrorCode::corrupt, "bytes 1 to 2 belong to no tensor"},
          {R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})",
           3, ErrorCode::corrupt, "overlap another tensor's"},
          {R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})",
           2, ErrorCode::corrupt, "overlap another tensor's"},
          {R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[0],"data_offsets":[1,1]}})",
           2, ErrorCode::corrupt, "overlap another tensor's"},
          {R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})", 1, ErrorCode::truncated, "need 2 bytes"},
          {R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})", 3, ErrorCode::corrupt,
           "the last 1 bytes of the file belong to no tensor"},
          {"{}", 1, ErrorCode::corrupt, "the last 1 bytes"},
          {R"({"a":{"dtype":"U8","shape":[9223372036854775807],"data_offsets":[0,9223372036854775807]}})", 8,
           ErrorCode::truncated, "need 9223372036854775807 bytes"},
      }) {
    check_refused(c);
  }
}

TEST_CASE("limits of the header") {
  std::string shape = "1";
  for (int i = 1; i < 32; ++i) shape += ",1";
  const auto entry = [](const std::string& dims) {
    return R"({"a":{"dtype":"U8","shape":[)" + dims + R"(],"data_offsets":[0,1]}})";
  };
  CHECK(open_text(file_text(entry(shape), 1))->dump().tensors[0].shape.size() == 32);
  check_refused({entry(shape + ",1").c_str(), 1, ErrorCode::limit, "more than 32 dimensions"});
  const std::string deep(100000, '[');
  check_refused({entry(deep).c_str(), 1, ErrorCode::corrupt, "whole numbers"});
  std::string many = R"({"__metadata__":{)";
  for (int i = 0; i <= 1 << 20; ++i) many += (i == 0 ? "\"" : ",\"") + std::to_string(i) + "\":\"\"";
  check_refused({(many + "}}").c_str(), 0, ErrorCode::limit, "more than 1048576 entries"});
  std::string tensors = "{";
  for (int i = 0; i < 1 << 18; ++i) {
    tensors += (i == 0 ? "\"" : ",\"") + std::to_string(i) + R"(":{"dtype":"U8","shape":[0],"data_offsets":[0,0]})";
  }
  CHECK(open_text(file_text(tensors + "}", 0))->dump().tensors.size() == 1 << 18);
  // What follows is not read.
  check_refused({(tensors + ",\"x\":").c_str(), 0, ErrorCode::limit, "more than 262144 tensors"});
  for (const std::size_t size : {0u, 1u, 7u}) {
    CHECK(error_of([&] { open_text(std::string(size, '\0')); })->code() == ErrorCode::truncated);
  }
  const auto with_length = [](std::uint64_t length) {
    std::string text = file_text("{}", 0);
    std::memcpy(text.data(), &length, sizeof length);
    return error_of([&] { open_text(text); });
  };
  CHECK(with_length(3)->code() == ErrorCode::truncated);
  CHECK(with_length(100'000'000)->code() == ErrorCode::truncated);
  CHECK(with_length(100'000'001)->code() == ErrorCode::limit);
  CHECK(with_length(~std::uint64_t{0})->code() == ErrorCode::limit);
}

TEST_CASE("metadata that only looks like an attribute stays a string") {
  const std::vector<MetadataEntry> entries{
      {"kvzip.attribute:", ""},
      {"kvzip.attribute:a@b", ""},
      {"kvzip.attribute:a@b", "{}"},
      {"kvzip.attribute:a@b", "[[[["},
      {"kvzip.attribute:a@b", R"({"shape":[],"strings":["x"]} )"},
      {"kvzip.attribute:a@b", R"({"shape":[],"strings":["x"],"strings":[]})"},
      {"kvzip.attribute:a@b", R"({"strings":["x"],"shape":[]})"},
      {"kvzip.attribute:a@b", R"({"shape":[],"strings":[1]})"},
      {"kvzip.attribute:a@b", R"({"shape":[2],"strings":["x"]})"},
      {"kvzip.attribute:a@b", R"({"shape":[4294967296,4294967296],"strings":[]})"},
      {"kvzip.attribute:a@b", R"({"shape":[],"hex_strings":["41"]})"},
      {"kvzip.attribute:a@b", R"({"dtype":"F32","shape":[],"data":"00"})"},
      {"kvzip.attribute:a@b", R"({"dtype":"U8","shape":[],"data":"0"})"},
      {"kvzip.attribute:a@b", R"({"dtype":"U8","shape":[],"data":"0G"})"},
      {"kvzip.attribute:a@b", R"({"dtype":"U8","shape":[],"data":"AB"})"},
      {"kvzip.attribute:a@b", R"({"dtype":"U9","shape":[],"data":"00"})"},
      {"kvzip.attribute:a@b", R"({"dtype":"U8","shape":[-1],"data":"00"})"},
      {"kvzip.attribute:@b", R"({"shape":[],"strings":["x"]})"},
      {"kvzip.attribute:a%41@b", R"([{"shape":[],"strings":["x"]}])"},
  };
  for (const MetadataEntry& entry : entries) {
    CAPTURE(entry.value);
    const Attribute attribute = attribute_of(entry);
    CHECK(attribute == Attribute{"", entry.key, {entry.value}, {}, {}, {}});
  }
  const Attribute taken = attribute_of({"kvzip.attribute:a%40@b", R"({"shape":[],"strings":["x"]})"});
  CHECK(taken == Attribute{"a@", "b", {"x"}, {}, {}, {}});
}

}  // namespace
}  // namespace kvzip
