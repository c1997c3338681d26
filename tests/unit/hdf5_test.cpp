// SPDX-License-Identifier: Apache-2.0
// HDF5 files: what is written comes back, and what h5py wrote (tests/golden/hdf5/make.py) is understood.
#include "formats/hdf5.hpp"

#include <doctest/doctest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "formats/hdf5_boxes.hpp"
#include "kvzip/error.hpp"

using namespace kvzip;

namespace {

std::string golden(const std::string& name) {
  return std::string(KVZIP_TEST_DIR) + "/golden/hdf5/" + name;
}

/// A directory that goes with the test.
struct Scratch {
  std::filesystem::path path;
  Scratch() {
    std::string name = (std::filesystem::temp_directory_path() / "kvzip-hdf5-XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    path = name;
  }
  ~Scratch() { std::filesystem::remove_all(path); }
  std::string operator/(const char* name) const { return (path / name).string(); }
};

std::string file_bytes(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

ErrorCode code_of(const auto& action) {
  try {
    action();
  } catch (const Error& error) {
    MESSAGE(error.what());
    return error.code();
  }
  FAIL("no error");
  return ErrorCode::io;
}

std::size_t tensor_index(const DumpReader& reader, std::string_view name) {
  const auto& tensors = reader.dump().tensors;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    if (tensors[i].name == name) return i;
  }
  FAIL("no tensor " << name);
  return 0;
}

Bytes read_all(DumpReader& reader, std::size_t tensor) {
  const TensorInfo& info = reader.dump().tensors[tensor];
  Slice slice{tensor, {}, slice_shape(info)};
  slice.start.resize(slice.count.size());
  Bytes out(info.bytes());
  reader.read(slice, out);
  return out;
}

template <typename T>
std::vector<T> values(DumpReader& reader, std::string_view name) {
  const Bytes bytes = read_all(reader, tensor_index(reader, name));
  std::vector<T> out(bytes.size() / sizeof(T));
  if (!out.empty()) std::memcpy(out.data(), bytes.data(), bytes.size());
  return out;
}

/// Every tensor's bytes, put together from the reader's parts; checks that they cover each element once.
std::vector<Bytes> read_parts(DumpReader& reader) {
  const Dump& dump = reader.dump();
  std::vector<Bytes> out, seen;
  for (const TensorInfo& info : dump.tensors) {
    out.emplace_back(info.bytes());
    seen.emplace_back(info.bytes());
  }
  for (std::uint64_t i = 0; i < reader.part_count(); ++i) {
    Part part = reader.part(i);
    CHECK(part.index == i);
    reader.fetch(part);
    for (std::size_t s = 0; s < part.slices.size(); ++s) {
      const Slice& slice = part.slices[s];
      const TensorInfo& info = dump.tensors[slice.tensor];
      const std::size_t unit = slice_unit(info);
      for_each_run(slice_shape(info), slice, [&](std::uint64_t to, std::uint64_t from, std::uint64_t count) {
        std::memcpy(out[slice.tensor].data() + to * unit, part.data[s].data() + from * unit, count * unit);
        for (std::uint64_t b = 0; b < count * unit; ++b) {
          CHECK(seen[slice.tensor][to * unit + b] == std::byte{0});
          seen[slice.tensor][to * unit + b] = std::byte{1};
        }
      });
    }
  }
  for (const Bytes& tensor : seen) CHECK(std::count(tensor.begin(), tensor.end(), std::byte{0}) == 0);
  return out;
}

Bytes pattern(std::uint64_t bytes, unsigned seed) {
  Bytes out(bytes);
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<std::byte>((i * 37 + seed * 101) & 0xff);
  return out;
}

Attribute text(std::string object, std::string name, std::string value) {
  return {std::move(object), std::move(name), {std::move(value)}, {}, {}, {}};
}
Attribute marker(std::string object) {
  return {std::move(object), "", {}, {}, {}, {}};
}

/// One tensor of every type, an empty one and a scalar, nested and empty groups, and attributes of all kinds.
Dump sample_dump() {
  Dump dump;
  for (std::size_t d = 0; d < kDTypeCount; ++d) {
    const auto dtype = static_cast<DType>(d);
    dump.tensors.push_back({"layers." + std::to_string(d) + ".key", dtype, {3, 8}});
  }
  dump.tensors.push_back({"group/sub/v", DType::bf16, {2, 3, 4}});
  dump.tensors.push_back({"group/a é", DType::f16, {0, 4}});
  dump.tensors.push_back({"scalar", DType::f32, {}});
  dump.tensors.push_back({"empty packed", DType::f4, {0, 3}});
  dump.attributes.push_back(text("", "model", "tiny é"));
  dump.attributes.push_back({"", "names", {"a", "", "ccc", "d"}, {}, {2, 2}, {}});
  dump.attributes.push_back({"", "none", {}, {}, {0}, {}});
  for (const DType dtype : {DType::boolean, DType::f16, DType::bf16, DType::f8_e5m2, DType::f8_e4m3, DType::c64,
                            DType::i8, DType::u16, DType::i32, DType::f64, DType::u64}) {
    const std::string name(dtype_name(dtype));
    dump.attributes.push_back({"", "a" + name, {}, dtype, {}, pattern(dtype_unit(dtype), 3)});
    dump.attributes.push_back({"", "b" + name, {}, dtype, {3, 2}, pattern(6 * dtype_unit(dtype), 4)});
  }
  dump.attributes.push_back({"", "large", {}, DType::u8, {100000}, pattern(100000, 5)});
  dump.attributes.push_back({"", "long", {std::string(70000, 'x')}, {}, {1}, {}});
  dump.attributes.push_back(text("layers.3.key", "axes", "TD"));
  dump.attributes.push_back(text("group", "z", "1"));
  dump.attributes.push_back(text("group", "y", "2"));
  dump.attributes.push_back(text("made/for/this", "x", "3"));
  dump.attributes.push_back(marker("made/empty"));
  return dump;
}

void write_dump(const std::string& path, const Dump& dump, std::uint64_t part_bytes, bool backwards) {
  auto writer = create_hdf5(path, dump, true);
  for (std::size_t t = 0; t < dump.tensors.size(); ++t) {
    const TensorInfo& info = dump.tensors[t];
    const Bytes data = pattern(info.bytes(), static_cast<unsigned>(t));
    std::vector<Slice> slices = split_contiguous(info, t, part_bytes);
    if (backwards) std::reverse(slices.begin(), slices.end());
    for (Slice& slice : slices) {
      Bytes box(slice.elements() * slice_unit(info));
      const std::size_t unit = slice_unit(info);
      for_each_run(slice_shape(info), slice, [&](std::uint64_t from, std::uint64_t to, std::uint64_t count) {
        std::memcpy(box.data() + to * unit, data.data() + from * unit, count * unit);
      });
      Part part;
      part.slices.push_back(std::move(slice));
      part.data.push_back(std::move(box));
      writer->append(part);
    }
  }
  writer->finish();
}

bool has(const Dump& dump, const Attribute& attribute) {
  return std::find(dump.attributes.begin(), dump.attributes.end(), attribute) != dump.attributes.end();
}

}  // namespace

TEST_CASE("hdf5: what is written comes back") {
  const Scratch scratch;
  const Dump dump = sample_dump();
  write_dump(scratch / "a.h5", dump, 4 << 20, false);
  write_dump(scratch / "b.h5", dump, 7, true);
  CHECK(file_bytes(scratch / "a.h5") == file_bytes(scratch / "b.h5"));
  const auto reader = open_hdf5(scratch / "a.h5");
  CHECK(reader->dump().tensors.size() == dump.tensors.size());
  const std::vector<Bytes> data = read_parts(*reader);
  for (std::size_t t = 0; t < dump.tensors.size(); ++t) {
    const std::size_t found = tensor_index(*reader, dump.tensors[t].name);
    CHECK(reader->dump().tensors[found] == dump.tensors[t]);
    CHECK(data[found] == pattern(dump.tensors[t].bytes(), static_cast<unsigned>(t)));
    CHECK(read_all(*reader, found) == data[found]);
  }
  CHECK(reader->dump().attributes.size() == dump.attributes.size());
  for (const Attribute& attribute : dump.attributes) {
    CAPTURE(attribute.name);
    CHECK(has(reader->dump(), attribute));
  }
  // A file made from what was read is the same file: order, groups and all.
  const Dump again = reader->dump();
  {
    auto writer = create_hdf5(scratch / "c.h5", again, false);
    for (std::uint64_t i = 0; i < reader->part_count(); ++i) {
      Part part = reader->part(i);
      reader->fetch(part);
      writer->append(part);
    }
    writer->finish();
  }
  const auto third = open_hdf5(scratch / "c.h5");
  CHECK(third->dump().tensors == again.tensors);
  CHECK(third->dump().attributes == again.attributes);
}

TEST_CASE("hdf5: tensors keep their order") {
  const Scratch scratch;
  Dump dump;
  for (const char* name : {"z", "layers.10", "layers.2", "g/b", "g/a", "a"}) {
    dump.tensors.push_back({name, DType::u8, {1}});
  }
  write_dump(scratch / "a.h5", dump, 1 << 20, false);
  CHECK(open_hdf5(scratch / "a.h5")->dump().tensors == dump.tensors);
}

TEST_CASE("hdf5: many attributes and many tensors") {
  const Scratch scratch;
  Dump dump;
  for (int i = 0; i < 300; ++i) {
    dump.tensors.push_back({"t" + std::to_string(i * 7919 % 300), DType::i16, {2}});
    dump.attributes.push_back(text("", "a" + std::to_string(i * 7919 % 300), std::to_string(i)));
  }
  write_dump(scratch / "a.h5", dump, 1 << 20, false);
  const auto reader = open_hdf5(scratch / "a.h5");
  CHECK(reader->dump().tensors == dump.tensors);
  CHECK(reader->dump().attributes == dump.attributes);
}

TEST_CASE("hdf5: a file appears only when it is complete") {
  const Scratch scratch;
  Dump dump;
  dump.tensors.push_back({"k", DType::f16, {4, 4}});
  {
    const auto writer = create_hdf5(scratch / "a.h5", dump, false);
    CHECK(!std::filesystem::exists(scratch / "a.h5"));
    CHECK(code_of([&] { writer->finish(); }) == ErrorCode::invalid_argument);
  }
  CHECK(std::filesystem::is_empty(scratch.path));
  write_dump(scratch / "a.h5", dump, 8, false);
  CHECK(code_of([&] { create_hdf5(scratch / "a.h5", dump, false); }) == ErrorCode::invalid_argument);
  {
    const auto writer = create_hdf5(scratch / "a.h5", dump, true);
    Part part;
    part.slices.push_back({0, {3, 0}, {2, 4}});
    part.data.emplace_back(16);
    CHECK(code_of([&] { writer->append(part); }) == ErrorCode::invalid_argument);
    part.slices[0] = {0, {0, 0}, {4, 4}};
    part.data[0].resize(32);
    writer->append(part);
    CHECK(code_of([&] { writer->append(part); }) == ErrorCode::invalid_argument);
  }
  CHECK(read_parts(*open_hdf5(scratch / "a.h5"))[0] == pattern(32, 0));
}

TEST_CASE("hdf5: names and attributes that HDF5 cannot hold are refused") {
  const Scratch scratch;
  const auto refused = [&](const std::vector<std::string>& names, const std::vector<Attribute>& attributes) {
    Dump dump;
    for (const std::string& name : names) dump.tensors.push_back({name, DType::u8, {0}});
    dump.attributes = attributes;
    const ErrorCode code = code_of([&] { create_hdf5(scratch / "a.h5", dump, false); });
    CHECK(std::filesystem::is_empty(scratch.path));
    return code;
  };
  for (const char* name : {"", "/a", "a/", "a//b", ".", "a/../b", "\xff"}) {
    CHECK(refused({name}, {}) == ErrorCode::invalid_argument);
  }
  CHECK(refused({std::string("a\0b", 3)}, {}) == ErrorCode::invalid_argument);
  CHECK(refused({"a", "a"}, {}) == ErrorCode::invalid_argument);
  CHECK(refused({"a", "a/b"}, {}) == ErrorCode::invalid_argument);
  CHECK(refused({"a/b", "a"}, {}) == ErrorCode::invalid_argument);
  CHECK(refused({"a"}, {marker("a/b")}) == ErrorCode::invalid_argument);
  CHECK(refused({}, {text("", "", "x")}) == ErrorCode::invalid_argument);
  CHECK(refused({}, {text("", "n", std::string("a\0b", 3))}) == ErrorCode::invalid_argument);
  CHECK(refused({}, {text("", "n", "\xff")}) == ErrorCode::invalid_argument);
  CHECK(refused({}, {text("", "n", "1"), text("", "n", "2")}) == ErrorCode::invalid_argument);
  CHECK(refused({}, {{"", "n", {}, DType::f32, {2}, Bytes(4)}}) == ErrorCode::invalid_argument);
  CHECK(refused({}, {{"", "n", {}, DType::f8_e8m0, {}, Bytes(1)}}) == ErrorCode::unsupported);
  Dump deep;
  deep.tensors.push_back({"k", DType::u8, std::vector<std::uint64_t>(33, 1)});
  CHECK(code_of([&] { create_hdf5(scratch / "a.h5", deep, false); }) == ErrorCode::limit);
}

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
  for (const TensorInfo& info : open_hdf5(golden("by_name.h5"))->dump().tensors) names.push_back(info.name);
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

TEST_CASE("hdf5: boxes cover a dataset once, chunk by chunk") {
  const std::vector<std::vector<std::uint64_t>> shapes{{17}, {7, 9}, {5, 6, 7}, {1, 1, 4}, {3, 1, 2, 5}};
  for (const auto& shape : shapes) {
    for (const std::uint64_t step : {0, 1, 2, 3, 50}) {
      for (const std::uint64_t limit : {1, 2, 7, 12, 40, 1000}) {
        const std::vector<std::uint64_t> chunk(step == 0 ? 0 : shape.size(), step);
        const hdf5::BoxPlan plan(shape, chunk, 2, limit * 2);
        std::uint64_t total = 1, covered = 0;
        for (const std::uint64_t n : shape) total *= n;
        std::vector<int> seen(total);
        for (std::uint64_t i = 0; i < plan.count(); ++i) {
          Slice slice;
          plan.box(i, slice.start, slice.count);
          CHECK(slice.elements() <= limit);
          for_each_run(shape, slice, [&](std::uint64_t at, std::uint64_t, std::uint64_t n) {
            for (std::uint64_t k = 0; k < n; ++k) covered += ++seen.at(at + k) == 1 ? 1 : 0;
          });
        }
        CHECK(covered == total);
        CHECK(std::count(seen.begin(), seen.end(), 1) == static_cast<std::ptrdiff_t>(total));
      }
    }
  }
  std::vector<std::uint64_t> start, size;
  const hdf5::BoxPlan rows({100, 64}, {8, 32}, 2, 2048);  // 16 rows of 64 elements
  CHECK(rows.count() == 7);
  rows.box(6, start, size);
  CHECK(start == std::vector<std::uint64_t>{96, 0});
  CHECK(size == std::vector<std::uint64_t>{4, 64});
  CHECK(hdf5::BoxPlan({}, {}, 2, 64).count() == 1);
  CHECK(hdf5::BoxPlan({3, 0}, {}, 2, 64).count() == 0);
  const hdf5::BoxPlan huge({std::uint64_t{1} << 40, 1 << 20}, {1 << 20, 1 << 8}, 1, 1 << 20);
  huge.box(huge.count() - 1, start, size);
  CHECK(start[0] + size[0] == std::uint64_t{1} << 40);
}
