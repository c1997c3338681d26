// SPDX-License-Identifier: Apache-2.0
// NumPy's files: those that numpy itself wrote (tests/golden/numpy), and hostile ones.
#include "formats/npy.hpp"

#include <fmt/format.h>

#include <doctest/doctest.h>

#include <cstring>
#include <numeric>

#include "formats/npy_header.hpp"
#include "formats/zip.hpp"
#include "kvzip/layout.hpp"
#include "tests/contract/sample_dumps.hpp"
#include "tests/unit/file_support.hpp"
#include "tests/unit/safetensors_text.hpp"

namespace kvzip::test {
namespace {

using namespace std::string_literals;

std::string golden(const std::string& name) {
  return std::string(KVZIP_TEST_DIR) + "/golden/numpy/" + name;
}

std::size_t index_of(const Dump& dump, std::string_view name) {
  for (std::size_t i = 0; i < dump.tensors.size(); ++i) {
    if (dump.tensors[i].name == name) return i;
  }
  FAIL("no tensor " << name);
  return 0;
}

/// The elements of a tensor as numbers.
std::vector<double> numbers(DumpReader& reader, std::string_view name) {
  const std::size_t tensor = index_of(reader.dump(), name);
  const TensorInfo& info = reader.dump().tensors[tensor];
  const Bytes data = values_of(reader)[tensor];
  std::vector<double> out;
  if (is_codable_float(info.dtype)) {
    std::vector<float> floats(info.elements());
    to_float(info.dtype, data, floats);
    return {floats.begin(), floats.end()};
  }
  const std::size_t unit = dtype_unit(info.dtype);
  for (std::size_t at = 0; at < data.size(); at += unit) {
    std::int64_t value = 0;
    std::memcpy(&value, data.data() + at, unit);
    out.push_back(static_cast<double>(value));
  }
  return out;
}

/// 0, step, 2 step and so on.
std::vector<double> count(std::size_t n, double step) {
  std::vector<double> out(n);
  for (std::size_t i = 0; i < n; ++i) out[i] = static_cast<double>(i) * step;
  return out;
}

std::string array_text(std::string_view dictionary, std::size_t data) {
  return numpy_header(dictionary) + std::string(data, '\1');
}

std::optional<Error> opening(std::string_view text) {
  return error_of([&] { values_of(*open_npy(InputFile(view(text), "x.npy"))); });
}

}  // namespace

TEST_CASE("archives of numpy: stored, deflated, of 64 bits; either order of bytes and axes; raw types") {
  for (const char* name : {"stored.npz", "deflated.npz", "zip64.npz"}) {
    CAPTURE(name);
    const auto reader = open_reader(golden(name));
    const Dump& dump = reader->dump();
    REQUIRE(dump.tensors.size() == 4);
    CHECK(dump.tensors[0] == TensorInfo{"layers.0.key", DType::f16, {2, 3, 4}});
    CHECK(dump.tensors[1] == TensorInfo{"layers.0.value", DType::f32, {2, 3, 4}});
    CHECK(dump.tensors[2] == TensorInfo{"layers.1.key", DType::bf16, {2, 3, 4}});
    CHECK(dump.tensors[3] == TensorInfo{"layers/1/value", DType::f8_e5m2, {2, 3, 4}});
    CHECK(dump.text("model") == "tiny \xc3\xa9\xf0\x9f\x98\x80");
    CHECK(dump.text("rope_theta") == "10000");
    CHECK(numbers(*reader, "layers.0.key") == count(24, 0.125));
    CHECK(numbers(*reader, "layers.0.value") == count(24, -1));
    CHECK(numbers(*reader, "layers.1.key") == count(24, 1));
    CHECK(numbers(*reader, "layers/1/value")[16] == 16);
    CHECK(recognise(dump).recognised == 4);
  }
}

TEST_CASE("one array of numpy is called like its file") {
  const auto fortran = open_reader(golden("fortran.npy"));
  CHECK(fortran->dump().tensors.at(0) == TensorInfo{"fortran", DType::f32, {2, 3, 4}});
  CHECK(numbers(*fortran, "fortran") == count(24, 1));
  // Any box of it, too: [1, 1:3, 2:4] of numbers 12 i + 4 j + k.
  Bytes box(4 * sizeof(float));
  fortran->read({0, {1, 1, 2}, {1, 2, 2}}, box);
  std::vector<float> values(4);
  to_float(DType::f32, box, values);
  CHECK(values == std::vector<float>{18, 19, 22, 23});
  const auto key = open_reader(golden("layers.3.key.npy"));
  CHECK(key->dump().tensors.at(0) == TensorInfo{"layers.3.key", DType::f16, {2, 3, 4}});
  CHECK(numbers(*key, "layers.3.key") == count(24, 1));
  CHECK(recognise(key->dump()).tensors[0].layer == 3u);
}

TEST_CASE("every type of numpy is read, and what a dump has no type for is kept as bytes") {
  const auto reader = open_reader(golden("types.npz"));
  const Dump& dump = reader->dump();
  for (const char* name : {"i1", "u1", "<i2", ">i2", "<u2", "<i4", ">u4", "<i8", ">u8", "<f2", "<f4", ">f8"}) {
    CAPTURE(name);
    CHECK(numbers(*reader, name) == count(6, 1));
  }
  CHECK(dump.tensors[index_of(dump, "?")].dtype == DType::boolean);
  CHECK(dump.tensors[index_of(dump, "e4m3")] == TensorInfo{"e4m3", DType::u8, {6}});
  const std::vector<Bytes> all = values_of(*reader);
  CHECK(all[index_of(dump, "<c8")] == all[index_of(dump, ">c8")]);
  CHECK(dump.tensors[index_of(dump, "scalar")] == TensorInfo{"scalar", DType::f32, {}});
  CHECK(dump.tensors[index_of(dump, "empty")] == TensorInfo{"empty", DType::f32, {0, 4}});
  for (const TensorInfo& kept : std::vector<TensorInfo>{{"<c16", DType::u8, {96}},
                                                        {"texts", DType::u8, {16}},
                                                        {"bytes", DType::u8, {4}},
                                                        {"record", DType::u8, {12}}}) {
    CHECK(dump.tensors[index_of(dump, kept.name)] == kept);
  }
  // A pickle is bytes like any others.
  CHECK(dump.tensors[index_of(dump, "object")].dtype == DType::u8);

  // Written again, the bytes of each array are those that numpy wrote, but for byte order.
  const ScratchDirectory scratch;
  const auto writer = create_writer(scratch.file("b.npz"), "npz", dump, false);
  transcode(*reader, *writer, 1);
  writer->finish();
  const InputFile before(golden("types.npz")), after(scratch.file("b.npz"));
  const auto old_members = read_zip_directory(before), new_members = read_zip_directory(after);
  REQUIRE(old_members.size() == new_members.size());
  std::size_t same = 0;
  for (std::size_t i = 0; i < old_members.size(); ++i) {
    CHECK(old_members[i].name == new_members[i].name);
    same += read_text(before, old_members[i].begin, old_members[i].size) ==
            read_text(after, new_members[i].begin, new_members[i].size);
  }
  CHECK(same == old_members.size() - 6);  // >i2 >u4 >u8 >f8 >c8, and V1, which says '|V1' now
  CHECK(open_reader(scratch.file("b.npz"))->dump().tensors == dump.tensors);
}

TEST_CASE("metadata that has a tensor's name keeps it") {
  Dump dump{.tensors = {{"1.0", DType::f32, {2}}}, .attributes = {}};
  for (const char* name : {"0.0", "1.0"}) dump.attributes.push_back(text_attribute(name, "a \"b\""));
  MemoryReader reader(dump);
  const ScratchDirectory scratch;
  const auto writer = create_writer(scratch.file("a.npz"), "npz", dump, false);
  transcode(reader, *writer, 1);
  writer->finish();
  CHECK(open_reader(scratch.file("a.npz"))->dump().attributes == dump.attributes);
  const InputFile file(scratch.file("a.npz"));
  CHECK(read_zip_directory(file)[2].name == "kvzip.attribute:@1.0.npy");
}

TEST_CASE("a record whose field has a backslash or a quote in its name is bytes") {
  for (const char* name : {R"('a\\b')", R"('a\'b')", R"("a\"[b")"}) {
    CAPTURE(name);
    const std::string text =
        array_text(fmt::format("{{'descr': [({}, '<f4')], 'fortran_order': False, 'shape': (2,), }}", name), 8);
    CHECK(open_npy(InputFile(view(text), "x.npy"))->dump().tensors[0] == TensorInfo{"x", DType::u8, {8}});
  }
  const auto error = opening(array_text(R"({'descr': [('a\)", 4));
  REQUIRE(error);
  CHECK(error->code() == ErrorCode::corrupt);
}

TEST_CASE("headers of numpy that make no sense are refused") {
  struct Case {
    std::string text;
    ErrorCode code;
    const char* says;
  };
  const auto of = [](std::string_view shape, std::size_t data) {
    return array_text(fmt::format("{{'descr': '<f4', 'fortran_order': False, 'shape': {}, }}", shape), data);
  };
  CHECK(!opening(of("(3,)", 12)));
  CHECK(!opening(of("(3L, 1L)", 12)));
  CHECK(!opening(of("()", 4)));
  CHECK(!opening(of("(0, 9223372036854775807)", 0)));
  for (const Case& c : std::vector<Case>{
           {of("(3,)", 11), ErrorCode::truncated, "needs 12 bytes, but has 11"},
           {of("(3,)", 13), ErrorCode::corrupt, "needs 12 bytes, but has 13"},
           {of("(9223372036854775807, 9223372036854775807)", 4), ErrorCode::limit, "64 bits"},
           {of("(4611686018427387904,)", 4), ErrorCode::limit, "64 bits"},
           {of("(18446744073709551616,)", 4), ErrorCode::corrupt, "shape"},
           {of("(-1,)", 4), ErrorCode::corrupt, "shape"},
           {of("(1 1)", 4), ErrorCode::corrupt, "shape"},
           {of("1", 4), ErrorCode::corrupt, "no '('"},
           {of("(" + fmt::format("{}", fmt::join(std::vector<int>(33, 1), ",")) + ")", 4), ErrorCode::limit, "32"},
           {array_text("{'descr': '<f4', 'shape': (1,)}", 4), ErrorCode::corrupt, "fortran_order"},
           {array_text("{'descr': '<f4', 'descr': '<f4'}", 4), ErrorCode::corrupt, "the key 'descr'"},
           {array_text("{'descr': '<f4', 'fortran_order': 1, 'shape': (1,)}", 4), ErrorCode::corrupt, "True nor"},
           {array_text("{'descr': '<f4'", 4), ErrorCode::corrupt, "comma"},
           {array_text("{'descr': [('a', '<f4'", 4), ErrorCode::corrupt, "list without an end"},
           {array_text("{'descr': '<f4", 4), ErrorCode::corrupt, "text without an end"},
           {array_text("{}, __import__('os')", 4), ErrorCode::corrupt, "more after its end"},
           {"\x93NUMPY\x04\0\0\0\0\0"s, ErrorCode::unsupported, "version 4"},
           {"\x93NUMPY\x02\0\xff\xff\xff\xff"s, ErrorCode::limit, "too many"},
           {"\x93NUMPY\x01\0\xff\0{}"s, ErrorCode::truncated, "265 bytes"},
           {"\x93NUMPY\x01\0"s, ErrorCode::truncated, "too few"},
       }) {
    CAPTURE(c.says);
    const auto error = opening(c.text);
    REQUIRE(error);
    CHECK(error->code() == c.code);
    CHECK_MESSAGE(std::string_view(error->what()).find(c.says) != std::string_view::npos, error->what());
  }
}

TEST_CASE("archives that were damaged give an error or what they held") {
  for (const char* name : {"stored.npz", "deflated.npz", "zip64.npz"}) {
    CAPTURE(name);
    const Bytes whole = file_bytes(golden(name));
    const auto reader = open_reader(golden(name));
    const std::vector<Bytes> values = values_of(*reader);
    for (std::size_t size = 0; size < whole.size(); size += size < 256 ? 1 : 37) {
      CHECK(code_of([&] { open_npz(InputFile(ByteView(whole).first(size), "cut")); }) == ErrorCode::truncated);
    }
    for (std::size_t bit = 0; bit < whole.size() * 8; bit += 3) {
      Bytes bad = whole;
      bad[bit / 8] ^= std::byte{1} << (bit % 8);
      try {
        const auto opened = open_npz(InputFile(bad, "bad"));
        const std::vector<Bytes> read = values_of(*opened);
        // Names, texts, dates and the like may be others; values under the same name and type may not.
        for (std::size_t i = 0; i < read.size() && opened->dump().tensors == reader->dump().tensors; ++i) {
          CHECK(read[i] == values[i]);
        }
      } catch (const Error& error) {
        CHECK(std::string_view(error.what()).find("bad") != std::string_view::npos);
      }
    }
  }
}

TEST_CASE("members of an archive that share bytes or are there twice are refused") {
  const std::string array = array_text("{'descr': '|u1', 'fortran_order': False, 'shape': (4,), }", 4);
  const auto archive = [&](const char* second, std::uint64_t second_at, std::uint64_t size) {
    ZipMember a{.name = "a.npy", .header = 0, .stored = size, .size = size};
    ZipChecksum sum;
    sum.add(0, view(array));
    a.crc = sum.value();
    ZipMember b = a;
    b.name = second;
    b.header = second_at;
    std::string text = zip_local_header(a) + array + zip_local_header(b) + array;
    const std::uint64_t end = text.size();
    return text + zip_directory(std::vector<ZipMember>{a, b}, end);
  };
  const std::uint64_t next = zip_local_header({.name = "a.npy"}).size() + array.size();
  const auto opened = [](const std::string& text) {
    return error_of([&] { values_of(*open_npz(InputFile(view(text), "x"))); });
  };
  CHECK(!opened(archive("b.npy", next, array.size())));
  const auto says = [&](const std::string& text, ErrorCode code, std::string_view what) {
    const auto error = opened(text);
    REQUIRE(error);
    CHECK(error->code() == code);
    CHECK_MESSAGE(std::string_view(error->what()).find(what) != std::string_view::npos, error->what());
  };
  says(archive("a.npy", next, array.size()), ErrorCode::corrupt, "two members 'a.npy'");
  says(archive("b.npy", 0, array.size()), ErrorCode::corrupt, "share bytes");
  says(archive("b.npy", next, array.size() + 1), ErrorCode::corrupt, "not in the file");
  says(archive("b.npy", next, std::uint64_t{1} << 40), ErrorCode::corrupt, "not in the file");
  says(archive("b.npy", next + 1, array.size()), ErrorCode::corrupt, "no header");
}

TEST_CASE("a checksum does not depend on the order in which bytes come") {
  const std::string text = "the checksum of a member is that of its bytes in their order";
  ZipChecksum whole, parts;
  whole.add(0, view(text));
  for (const std::size_t at : {20u, 0u, 50u, 40u, 10u, 30u})
    parts.add(at, view(text).subspan(at, std::min<std::size_t>(10, text.size() - at)));
  CHECK(parts.value() == whole.value());
  ZipChecksum check;  // the check value of CRC-32/ISO-HDLC
  check.add(0, view("123456789"));
  CHECK(check.value() == 0xcbf43926u);
}

TEST_CASE("a .npy file holds one array and says so") {
  const ScratchDirectory scratch;
  auto one = sample_reader({{"layers.0.key", DType::bf16, {3, 4}, {}, {}, ""}});
  const auto writer = create_writer(scratch.file("layers.0.key.npy"), "npy", one->dump(), false);
  transcode(*one, *writer, 1);
  writer->finish();
  const auto back = open_reader(scratch.file("layers.0.key.npy"));
  CHECK(back->dump().tensors == one->dump().tensors);
  CHECK(values_of(*back) == originals(*one));
  CHECK(format_losses("npy", one->dump(), "d/layers.0.key.npy").empty());
  CHECK(format_losses("npy", one->dump(), "b.npy") == std::vector<std::string>{"the name 'layers.0.key'"});
  Dump more = one->dump();
  more.attributes.push_back(text_attribute("model", "m"));
  more.tensors[0].dtype = DType::f8_e4m3;
  CHECK(format_losses("npy", more, "layers.0.key.npy") ==
        std::vector<std::string>{"the type F8_E4M3", "1 entries of metadata"});
  CHECK(format_losses("npz", more, "b.npz").empty());
  more.tensors.push_back({"b", DType::f16, {1}});
  CHECK(code_of([&] { create_writer(scratch.file("b.npy"), "npy", more, false); }) == ErrorCode::unsupported);
  CHECK(scratch.entries() == 1);
}

}  // namespace kvzip::test
