// SPDX-License-Identifier: Apache-2.0
// HDF5 files that h5py wrote (tests/golden/hdf5/make.py).
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
  for (int i = 0; i < 6; ++i) partly[static_cast<std::size_t>(11 + i / 3 * 5 + i % 3)] = i;
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

TEST_CASE("hdf5: what a dump cannot hold is refused, never left out") {
  for (const char* name : {"external_link.h5", "virtual.h5", "external_data.h5", "strings.h5", "compound.h5",
                           "opaque.h5", "no_shape.h5"}) {
    CAPTURE(name);
    CHECK(code_of([&] { open_hdf5(golden(name)); }) == ErrorCode::unsupported);
  }
  try {
    open_hdf5(golden("lzf.h5"));
  } catch (const Error& error) {
    const std::string message = error.what();
    for (const char* part : {"lzf.h5", "x/packed", "32000", "lzf", "h5repack -f NONE"}) {
      CHECK(message.find(part) != std::string::npos);
    }
  }
}
