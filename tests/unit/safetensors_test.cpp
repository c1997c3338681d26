// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>
#include <unistd.h>

#include <cstring>
#include <random>

#include "formats/safetensors.hpp"
#include "tests/unit/safetensors_text.hpp"
#include "tests/unit/scratch_directory.hpp"

namespace kvzip {
namespace {

using test::content_of;
using test::error_of;
using test::file_text;
using test::open_text;
using test::ScratchDirectory;

std::vector<Bytes> read_all(DumpReader& reader) {
  std::vector<Bytes> tensors;
  for (const TensorInfo& info : reader.dump().tensors) tensors.emplace_back(info.bytes());
  for (std::uint64_t i = 0; i < reader.part_count(); ++i) {
    Part part = reader.part(i);
    reader.fetch(part);
    const Slice& slice = part.slices.at(0);
    const TensorInfo& info = reader.dump().tensors[slice.tensor];
    const std::size_t unit = slice_unit(info);
    for_each_run(slice_shape(info), slice, [&](std::uint64_t to, std::uint64_t from, std::uint64_t n) {
      std::memcpy(tensors[slice.tensor].data() + to * unit, part.data[0].data() + from * unit, n * unit);
    });
  }
  return tensors;
}

Slice whole(const Dump& dump, std::size_t tensor) {
  const auto shape = slice_shape(dump.tensors[tensor]);
  return {tensor, std::vector<std::uint64_t>(shape.size(), 0), shape};
}

void write_all(DumpWriter& writer, const Dump& dump, const std::vector<Bytes>& data) {
  for (std::size_t i = dump.tensors.size(); i-- > 0;) {
    Part part;
    part.slices.push_back(whole(dump, i));
    part.data.push_back(data[i]);
    writer.append(part);
  }
  writer.finish();
}

Bytes random_bytes(std::size_t n, unsigned seed) {
  std::mt19937 random(seed);
  Bytes bytes(n);
  for (std::byte& b : bytes) b = static_cast<std::byte>(random());
  return bytes;
}

TEST_CASE("what the specification allows") {
  CHECK(open_text(file_text("{}", 0))->dump().tensors.empty());
  CHECK(open_text(file_text("{}      ", 0))->part_count() == 0);
  CHECK(open_text(file_text("{ \n \"__metadata__\" : { } } ", 0))->dump().attributes.empty());
  CHECK(open_text(file_text("{\"__metadata__\":null}", 0))->dump().attributes.empty());  // as MLX writes it
  // Offsets that do not ascend with the keys, unaligned data, empty tensors and an empty name.
  const auto reader = open_text(file_text(
      R"({"b":{"shape":[1],"dtype":"F32","data_offsets":[3,7]},"__metadata__":{"k":"v","":"\u00e9"},)"
      R"("":{"dtype":"BF16","shape":[],"data_offsets":[1,3]},"e":{"dtype":"F64","shape":[0,9223372036854775807],)"
      R"("data_offsets":[1,1]},"a":{"data_offsets":[0,1],"dtype":"BOOL","shape":[1,1]}} )",
      7));
  const Dump& dump = reader->dump();
  REQUIRE(dump.tensors.size() == 4);
  CHECK(dump.tensors[0].name == "b");
  CHECK(dump.tensors[1].name.empty());
  CHECK(dump.tensors[3].name == "a");
  CHECK(dump.text("k") == "v");
  CHECK(dump.text("") == "\xc3\xa9");
  const auto data = read_all(*reader);
  CHECK(data[0] == Bytes{std::byte{22}, std::byte{29}, std::byte{36}, std::byte{43}});
  CHECK(data[1] == Bytes{std::byte{8}, std::byte{15}});
  CHECK(data[2].empty());
  CHECK(data[3] == Bytes{std::byte{1}});
}

Dump every_dtype() {
  Dump dump;
  for (std::size_t i = 0; i < kDTypeCount; ++i) {
    const auto dtype = static_cast<DType>(i);
    const std::string name(dtype_name(dtype));
    dump.tensors.push_back({name + " matrix", dtype, {3, 8}});
    dump.tensors.push_back({name + "/empty", dtype, {2, 0, 4}});
    if (dtype_bits(dtype) >= 8) dump.tensors.push_back({name + " \"scalar\"\n\\", dtype, {}});
    dump.tensors.push_back({name + " \xc3\xa9", DType::u8, {i % 4}});
  }
  return dump;
}

TEST_CASE("every dtype comes back as it was") {
  const ScratchDirectory scratch;
  Dump dump = every_dtype();
  dump.attributes = {{"", "model", {"kvlm \"x\" \x01"}, {}, {}, {}}, {"", "axes", {"HTD"}, {}, {}, {}}};
  std::vector<Bytes> data;
  for (const TensorInfo& info : dump.tensors) data.push_back(random_bytes(info.bytes(), 7));
  const std::string path = scratch.file("a");
  write_all(*create_safetensors({path, false}, dump), dump, data);
  const auto reader = open_safetensors(InputFile(path));
  CHECK(reader->dump().tensors == dump.tensors);
  CHECK(reader->dump().attributes == dump.attributes);
  CHECK(read_all(*reader) == data);
  const std::string text = content_of(path);
  std::uint64_t length = 0;
  std::memcpy(&length, text.data(), sizeof length);
  CHECK(length % 8 == 0);
  CHECK(std::string_view(text).substr(8).starts_with(R"({"__metadata__":{"model":)"));
}

TEST_CASE("attributes that are not strings of the file survive as metadata") {
  const std::vector<Attribute> attributes{
      {"", "plain", {"x"}, {}, {}, {}},
      {"", "", {"no name"}, {}, {}, {}},
      {"", "list", {"a", "\"b\"", ""}, {}, {3}, {}},
      {"", "none", {}, {}, {0}, {}},
      {"", "one", {"a"}, {}, {1}, {}},
      {"", "latin", {"\xe9"}, {}, {}, {}},
      {"", "latin list", {"\xe9", ""}, {}, {2}, {}},
      {"group", "units", {"m"}, {}, {}, {}},
      {"group/empty", "", {}, {}, {}, {}},
      {"", "", {}, {}, {0}, {}},
      {"a@b%40", "c@d", {"x"}, {}, {}, {}},
      {"a", "b%40@c@d", {"x"}, {}, {}, {}},
      {"", "kvzip.attribute:odd", {"x"}, {}, {}, {}},
      {"", "theta", {}, DType::f64, {}, random_bytes(8, 1)},
      {"layers/0", "scales", {}, DType::f16, {2, 3}, random_bytes(12, 2)},
      {"layers/0", "nothing", {}, DType::i32, {0}, {}},
  };
  Dump dump;
  dump.attributes = attributes;
  const ScratchDirectory scratch;
  write_all(*create_safetensors({scratch.file("a"), false}, dump), dump, {});
  CHECK(open_safetensors(InputFile(scratch.file("a")))->dump().attributes == attributes);
}

TEST_CASE("dumps that safetensors cannot hold") {
  const ScratchDirectory scratch;
  const auto refused = [&](std::vector<TensorInfo> tensors, std::vector<Attribute> attributes) {
    return error_of([&] {
             create_safetensors({scratch.file("a"), false}, {std::move(tensors), std::move(attributes)});
           })
        ->code();
  };
  CHECK(refused({{"__metadata__", DType::u8, {}}}, {}) == ErrorCode::invalid_argument);
  CHECK(refused({{"\xff", DType::u8, {}}}, {}) == ErrorCode::invalid_argument);
  CHECK(refused({{"a", DType::u8, std::vector<std::uint64_t>(33, 1)}}, {}) == ErrorCode::invalid_argument);
  CHECK(refused({{"a", DType::u8, {}}, {"a", DType::u8, {}}}, {}) == ErrorCode::invalid_argument);
  CHECK(refused({}, {{"", "k", {"1"}, {}, {}, {}}, {"", "k", {"2"}, {}, {}, {}}}) == ErrorCode::invalid_argument);
  CHECK(refused({}, {{"", "\xff", {"1"}, {}, {}, {}}}) == ErrorCode::invalid_argument);
  CHECK(refused({{"a", DType::f4, {1}}}, {}) == ErrorCode::corrupt);
  constexpr std::uint64_t kHalf = std::uint64_t{1} << 62;
  CHECK(refused({{"a", DType::u8, {kHalf}}, {"b", DType::u8, {kHalf}}}, {}) == ErrorCode::limit);
  CHECK(scratch.entries() == 0);
}

TEST_CASE("slices of any box are read and written in place") {
  Dump dump;
  dump.tensors = {{"a", DType::u16, {4, 300, 5, 6}}, {"b", DType::f4, {3, 1000}}, {"c", DType::f32, {}}};
  std::vector<Bytes> data;
  for (const TensorInfo& info : dump.tensors) data.push_back(random_bytes(info.bytes(), 3));
  const ScratchDirectory scratch;
  write_all(*create_safetensors({scratch.file("a"), false}, dump), dump, data);
  const auto reader = open_safetensors(InputFile(scratch.file("a")));
  const auto writer = create_safetensors({scratch.file("b"), false}, dump);
  // The first tensor is cut along its second and third axis, so that every run is short.
  std::vector<Slice> slices{whole(dump, 2), {1, {700}, {800}}, {1, {0}, {700}}};
  for (std::uint64_t t = 0; t < 300; t += 100) {
    for (std::uint64_t h = 0; h < 5; ++h) slices.push_back({0, {0, t, h, 0}, {4, 100, 1, 6}});
  }
  for (const Slice& slice : slices) {
    const TensorInfo& info = dump.tensors[slice.tensor];
    const std::size_t unit = slice_unit(info);
    Part part;
    part.slices.push_back(slice);
    reader->fetch(part);
    Bytes expected(part.data[0].size());
    for_each_run(slice_shape(info), slice, [&](std::uint64_t from, std::uint64_t to, std::uint64_t n) {
      std::memcpy(expected.data() + to * unit, data[slice.tensor].data() + from * unit, n * unit);
    });
    REQUIRE(part.data[0] == expected);
    writer->append(part);
  }
  writer->finish();
  CHECK(content_of(scratch.file("b")) == content_of(scratch.file("a")));
}

TEST_CASE("a writer demands every byte once") {
  Dump dump;
  dump.tensors = {{"a", DType::u16, {4}}, {"b", DType::u8, {2}}};
  const ScratchDirectory scratch;
  const auto part_of = [](const Slice& slice, std::size_t bytes) {
    Part part;
    part.slices.push_back(slice);
    part.data.emplace_back(bytes);
    return part;
  };
  {
    const auto writer = create_safetensors({scratch.file("a"), false}, dump);
    Part a = part_of({0, {0}, {3}}, 6);
    writer->append(a);
    CHECK(error_of([&] { writer->append(a); })->code() == ErrorCode::invalid_argument);
    Part outside = part_of({0, {4}, {1}}, 2), short_data = part_of({0, {3}, {1}}, 1), other = part_of({2, {0}, {1}}, 1);
    for (Part* part : {&outside, &short_data, &other}) {
      CHECK(error_of([&] { writer->append(*part); })->code() == ErrorCode::invalid_argument);
    }
    const auto error = error_of([&] { writer->finish(); });
    REQUIRE(error.has_value());
    CHECK(std::string_view(error->what()).find("tensor 'a': 2 bytes were never written") != std::string_view::npos);
  }
  CHECK(scratch.entries() == 0);
}

/// Opens a file that may be damaged: it must give an Error or a dump whose data can be read whole.
void open_and_read(std::string_view text) {
  try {
    const auto reader = open_text(text);
    std::uint64_t bytes = 0;
    for (const TensorInfo& info : reader->dump().tensors) bytes += info.bytes();
    REQUIRE(bytes < text.size());
    read_all(*reader);
  } catch (const Error&) {
  }
}

TEST_CASE("truncated and flipped files give an error or a consistent dump") {
  const std::string header =
      R"({"__metadata__":{"k":"v","kvzip.attribute:@n":"{\"dtype\":\"U8\",\"shape\":[2],\"data\":\"0102\"}"},)"
      R"("key":{"dtype":"F16","shape":[2,3],"data_offsets":[0,12]},"v":{"dtype":"F4","shape":[4],"data_offsets":[12,14]}}  )";
  const std::string text = file_text(header, 14);
  CHECK(open_text(text)->dump().attributes.at(1).data.size() == 2);
  for (std::size_t size = 0; size < text.size(); ++size) {
    CHECK(error_of([&] { open_text(std::string_view(text).substr(0, size)); }).has_value());
  }
  for (std::size_t bit = 0; bit < (8 + header.size()) * 8; ++bit) {
    std::string damaged = text;
    damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ (1 << bit % 8));
    open_and_read(damaged);
  }
}

TEST_CASE("tensors beyond 4 GiB") {
  constexpr std::uint64_t kBytes = (std::uint64_t{5} << 30) + 7;
  const ScratchDirectory scratch;
  const std::string n = std::to_string(kBytes);
  const std::string header = R"({"big":{"dtype":"U8","shape":[)" + n + R"(],"data_offsets":[0,)" + n +
                             R"(]},"end":{"dtype":"U16","shape":[2],"data_offsets":[)" + n + "," +
                             std::to_string(kBytes + 4) + "]}}";
  const std::string path = scratch.file("a", file_text(header, 0));
  const std::uint64_t data = 8 + header.size();
  REQUIRE(::truncate(path.c_str(), static_cast<off_t>(data + kBytes)) == 0);
  std::ofstream(path, std::ios::binary | std::ios::app) << "tail";
  const auto reader = open_safetensors(InputFile(path));
  CHECK(reader->part_count() == (kBytes - 1) / (4 << 20) + 1 + 1);
  Part part = reader->part(reader->part_count() - 1);
  reader->fetch(part);
  CHECK(std::memcmp(part.data[0].data(), "tail", 4) == 0);
  part = reader->part(reader->part_count() - 2);
  reader->fetch(part);
  CHECK(part.slices[0].start[0] + part.data[0].size() == kBytes);
  CHECK(part.data[0].back() == std::byte{0});
}

}  // namespace
}  // namespace kvzip
