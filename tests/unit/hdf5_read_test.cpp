// SPDX-License-Identifier: Apache-2.0
// HDF5 files that h5py wrote (tests/golden/hdf5/make.py).
#include <fstream>
#include <iterator>

#include "formats/left_out.hpp"
#include "tests/unit/hdf5_support.hpp"

using namespace hdf5_test;

TEST_CASE("hdf5: types that h5py writes") {
  const auto reader = open_hdf5(golden("types.h5"));
  const auto has_type = [&](const char* name, DType dtype, std::vector<std::uint64_t> shape) {
    CAPTURE(name);
    const TensorInfo& info = reader->dump().tensors[tensor_index(*reader, name)];
    CHECK(dtype_name(info.dtype) == dtype_name(dtype));
    CHECK(info.shape == shape);
  };
  has_type("f16", DType::f16, {8, 6, 4});
  has_type("f16_chunked", DType::f16, {8, 6, 4});
  has_type("f32_big_endian", DType::f32, {8, 6, 4});
  has_type("f64", DType::f64, {8, 6, 4});
  has_type("bool", DType::boolean, {2, 2});
  has_type("complex", DType::c64, {3});
  has_type("scalar", DType::f32, {});
  has_type("empty", DType::f16, {0, 4});
  has_type("bf16_float", DType::bf16, {4});
  has_type("e5m2_float", DType::f8_e5m2, {4});
  has_type("e4m3_float", DType::f8_e4m3, {4});

  std::vector<std::uint16_t> halves;
  std::vector<float> floats;
  std::vector<double> doubles;
  for (int i = 0; i < 8 * 6 * 4; ++i) {
    floats.push_back(static_cast<float>(i) / 16 - 3);
    halves.push_back(f16_from_float(floats.back()));
    doubles.push_back(floats.back());
  }
  CHECK(values<std::uint16_t>(*reader, "f16") == halves);
  CHECK(values<std::uint16_t>(*reader, "f16_chunked") == halves);
  CHECK(values<float>(*reader, "f32_big_endian") == floats);
  CHECK(values<double>(*reader, "f64") == doubles);
  CHECK(values<std::uint8_t>(*reader, "bool") == std::vector<std::uint8_t>{1, 0, 0, 1});
  CHECK(values<std::int64_t>(*reader, "ids") == std::vector<std::int64_t>{-3, -2, -1, 0, 1, 2, 3, 4});
  CHECK(values<std::int16_t>(*reader, "i16_big_endian") == std::vector<std::int16_t>{-3, -2, -1, 0, 1, 2, 3, 4});
  CHECK(values<float>(*reader, "complex") == std::vector<float>{0, 3, 1, 4, 2, 5});
  CHECK(values<float>(*reader, "complex_big_endian") == std::vector<float>{0, 3, 1, 4, 2, 5});
  CHECK(values<float>(*reader, "scalar") == std::vector<float>{2.5f});
  CHECK(values<float>(*reader, "never_written") == std::vector<float>(15));
  std::vector<std::int32_t> partly(30, 7);
  for (std::size_t i = 0; i < 6; ++i) partly[11 + i / 3 * 5 + i % 3] = static_cast<std::int32_t>(i);
  CHECK(values<std::int32_t>(*reader, "partly_written") == partly);
  CHECK(values<std::int32_t>(*reader, "growing") == std::vector<std::int32_t>{0, 1, 2, 3, 4});
  CHECK(values<std::uint16_t>(*reader, "bf16_float") == std::vector<std::uint16_t>{0x3f80, 0xc000, 0x3f00, 0x3fe0});
  CHECK(values<std::uint8_t>(*reader, "e5m2_float") == std::vector<std::uint8_t>{0x3c, 0xc0, 0x38, 0x3f});
  CHECK(values<std::uint8_t>(*reader, "e4m3_float") == std::vector<std::uint8_t>{0x38, 0xc0, 0x30, 0x3e});

  const std::vector<Bytes> parts = read_parts(*reader);
  for (std::size_t t = 0; t < parts.size(); ++t) CHECK(parts[t] == read_all(*reader, t));
}

TEST_CASE("hdf5: attributes name the types of plain bits") {
  const auto reader = open_hdf5(golden("hints.h5"));
  const auto type = [&](const char* name) { return reader->dump().tensors[tensor_index(*reader, name)].dtype; };
  std::vector<std::uint16_t> bits;
  for (std::uint16_t i = 0; i < 24; ++i) bits.push_back(static_cast<std::uint16_t>(0x3f80 + i));
  for (const char* name : {"bf16_u16", "bf16_u16_big_endian", "bf16_opaque"}) {
    CAPTURE(name);
    CHECK(type(name) == DType::bf16);
    CHECK(values<std::uint16_t>(*reader, name) == bits);
  }
  CHECK(type("f8_u8") == DType::f8_e4m3);
  CHECK(type("f8_opaque") == DType::f8_e5m2);
  CHECK(type("plain_u8") == DType::u8);
  CHECK(has(reader->dump(), text("bf16_u16", "dtype", "bfloat16")));
  CHECK(has(reader->dump(), text("plain_u8", "dtype", "uint8")));
  CHECK(!has(reader->dump(), text("bf16_opaque", "kvzip.dtype", "BF16")));
}

TEST_CASE("hdf5: groups, orders and attributes that h5py writes") {
  const auto reader = open_hdf5(golden("structure.h5"));
  const Dump& dump = reader->dump();
  std::vector<std::string> names;
  for (const TensorInfo& info : dump.tensors) names.push_back(info.name);
  CHECK(names == std::vector<std::string>{"layers/10/v", "layers/10/k", "layers/2/v", "layers/2/k", "first"});
  CHECK(dump.text("model") == "tiny");
  CHECK(dump.text("beta") == "0.5");
  REQUIRE(dump.attributes.size() >= 3);
  CHECK(dump.attributes[1].name == "beta");
  CHECK(has(dump, {"layers", "names", {"é", "", "ccc"}, {}, {3}, {}}));
  CHECK(has(dump, {"layers", "fixed", {"ab", "c"}, {}, {2}, {}}));
  CHECK(has(dump, {"layers", "flag", {}, DType::boolean, {}, {std::byte{1}}}));
  CHECK(has(dump, {"layers", "half", {}, DType::f16, {}, {std::byte{0}, std::byte{0x3e}}}));
  CHECK(has(dump, {"layers", "nothing", {}, DType::f32, {0}, {}}));
  Bytes big(16);
  for (std::size_t i = 0; i < 4; ++i) big[4 * i] = static_cast<std::byte>(i + 1);
  CHECK(has(dump, {"layers", "big", {}, DType::u32, {2, 2}, big}));
  CHECK(has(dump, text("layers/2/k", "axes", "TD")));
  CHECK(has(dump, marker("hollow/inner")));
  CHECK(!has(dump, marker("hollow")));
  for (const Attribute& attribute : dump.attributes) CHECK(attribute.name != "reference");
}

TEST_CASE("hdf5: name order, links and cycles") {
  std::vector<std::string> names;
  const auto by_name = open_hdf5(golden("by_name.h5"));
  for (const TensorInfo& info : by_name->dump().tensors) names.push_back(info.name);
  CHECK(names == std::vector<std::string>{"a", "b/a", "b/z", "layers.10", "layers.2"});
  const auto reader = open_hdf5(golden("links.h5"));
  CHECK(reader->dump().tensors == std::vector<TensorInfo>{{"a/data", DType::f32, {4}}});
}

TEST_CASE("hdf5: what a dump cannot hold is left out by name") {
  CHECK(hdf5_left_out(*open_hdf5(golden("by_name.h5"))).empty());
  std::string all;
  for (const std::string& one : hdf5_left_out(*open_hdf5(golden("structure.h5")))) all += one + "\n";
  CHECK(all.find("attribute 'reference' of '/layers' (its type (reference) points into its own file)") !=
        std::string::npos);
  all.clear();
  for (const std::string& one : hdf5_left_out(*open_hdf5(golden("links.h5")))) all += one + "\n";
  CHECK(all.find("another name of 'a/data'") != std::string::npos);
  // A reader says so, too, unless the frame has it all.
  const auto bare = open_hdf5(golden("links.h5")), framed = open_reader(golden("links.h5"));
  CHECK(left_out_of(*bare) == hdf5_left_out(*bare));
  CHECK(left_out_of(*framed).empty());
  CHECK(hdf5_left_out(*framed) == left_out_of(*bare));
}

TEST_CASE("hdf5: a dataset without data behind a user block holds zeros") {
  const auto reader = open_hdf5(golden("nowhere.h5"));
  CHECK(values<std::uint16_t>(*reader, "layers.1.key") == std::vector<std::uint16_t>(8));
  CHECK(values<std::uint16_t>(*reader, "layers.0.key")[1] == 0x3c00);
}

TEST_CASE("hdf5: a type of a later release is refused as such, not as damage") {
  if (hdf5_version() >= "1.12") {
    CHECK(open_hdf5(golden("v112.h5"))->dump().tensors.size() == 1);
    return;
  }
  CHECK(code_of([] { open_hdf5(golden("v112.h5")); }) == ErrorCode::unsupported);
}

TEST_CASE("hdf5: of a dataset's names the one that says what it is stays") {
  const auto reader = open_hdf5(golden("names.h5"));
  std::vector<std::string> names;
  for (const TensorInfo& info : reader->dump().tensors) names.push_back(info.name);
  CHECK(names == std::vector<std::string>{"layers/0/key", "layers/0/value"});
  CHECK(has(reader->dump(), text("layers/0/key", "note", "kept")));
  CHECK(hdf5_left_out(*reader) ==
        std::vector<std::string>{"attribute 'latin' of '/' (its text is not UTF-8 without NUL)",
                                 "'alias' (another name of 'layers/0/key')",
                                 "'prompt' (its type (variable-length string) is no tensor element; store it as "
                                 "numbers or as an attribute)",
                                 "'soft' (a soft link)"});
  CHECK(values<std::uint16_t>(*reader, "layers/0/key") == std::vector<std::uint16_t>{0x3c00, 0x4000});
}

TEST_CASE("hdf5: bits that an attribute names go back into integers") {
  const Scratch scratch;
  const auto stored = [&](const char* name, std::vector<Attribute> attributes) {
    {
      const auto writer = create_hdf5({scratch / name, false},
                                      {.tensors = {{"t", DType::bf16, {2}}}, .attributes = std::move(attributes)});
      Part part;
      part.slices.push_back({0, {0}, {2}});
      part.data.emplace_back(4, std::byte{0x3f});
      writer->append(part);
      writer->finish();
    }
    const auto back = open_hdf5(scratch / name);
    CHECK(back->dump().tensors.at(0).dtype == DType::bf16);
    CHECK(read_all(*back, 0) == Bytes(4, std::byte{0x3f}));
    std::ifstream in(scratch / name, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(in), {});
  };
  // An unsigned integer of 2 bytes as a datatype message: version 1, class 0; size 2; offset 0, precision 16.
  const std::string integer("\x10\0\0\0\x02\0\0\0\0\0\x10\0", 12);
  CHECK(stored("named.h5", {text("t", "dtype", "bfloat16")}).find(integer) != std::string::npos);
  CHECK(stored("torch.h5", {text("t", "torch_dtype", "torch.bfloat16")}).find(integer) != std::string::npos);
  CHECK(stored("plain.h5", {}).find(integer) == std::string::npos);
  CHECK(stored("other.h5", {text("t", "dtype", "float16")}).find(integer) == std::string::npos);
  // What lay in a float type all the same goes back into one, and is read as that again.
  const std::vector<Attribute> own{text("t", "dtype", "bfloat16"), text("t", "kvzip.dtype", "BF16")};
  const std::string floats = stored("float.h5", own);
  CHECK(floats.find(integer) == std::string::npos);
  CHECK(floats.find("kvzip.dtype") == std::string::npos);
  CHECK(open_hdf5(scratch / "float.h5")->dump().attributes == own);
  CHECK(open_hdf5(scratch / "named.h5")->dump().attributes == std::vector<Attribute>{text("t", "dtype", "bfloat16")});
}

TEST_CASE("hdf5: a file that is cut while it is read is an error") {
  const Scratch scratch;
  const std::string path = scratch / "cut.h5";
  std::filesystem::copy_file(golden("by_name.h5"), path);
  std::filesystem::permissions(path, std::filesystem::perms::owner_all);
  const auto reader = open_hdf5(path);
  std::filesystem::resize_file(path, std::filesystem::file_size(path) / 2);
  const ErrorCode code = code_of([&] {
    for (std::size_t t = 0; t < reader->dump().tensors.size(); ++t) read_all(*reader, t);
  });
  CHECK((code == ErrorCode::truncated || code == ErrorCode::corrupt));
}

TEST_CASE("hdf5: what leaves no tensor is refused") {
  for (const char* name : {"external_link.h5", "virtual.h5", "external_data.h5", "strings.h5", "compound.h5",
                           "opaque.h5", "no_shape.h5", "layout5.h5"}) {
    CAPTURE(name);
    CHECK(code_of([&] { open_hdf5(golden(name)); }) == ErrorCode::unsupported);
  }
  try {
    open_hdf5(golden("lzf.h5"));
  } catch (const Error& error) {
    const std::string message = error.what();
    for (const char* part : {"lzf.h5", "x/packed", "32000", "lzf", "h5py"}) {
      CHECK(message.find(part) != std::string::npos);
    }
  }
}
