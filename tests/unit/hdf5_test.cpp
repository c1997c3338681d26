// SPDX-License-Identifier: Apache-2.0
// HDF5 files: what is written comes back.
#include <algorithm>
#include <fstream>
#include <iterator>
#include <thread>

#include "formats/hdf5/hdf5_boxes.hpp"
#include "tests/unit/hdf5_support.hpp"

using namespace hdf5_test;

namespace {

std::string file_bytes(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

Bytes pattern(std::uint64_t bytes, unsigned seed) {
  Bytes out(bytes);
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<std::byte>((i * 37 + seed * 101) & 0xff);
  return out;
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
  auto writer = create_hdf5({path, true}, dump);
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
    auto writer = create_hdf5({scratch / "c.h5", false}, again);
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
    const auto writer = create_hdf5({scratch / "a.h5", false}, dump);
    CHECK(!std::filesystem::exists(scratch / "a.h5"));
    CHECK(code_of([&] { writer->finish(); }) == ErrorCode::invalid_argument);
  }
  CHECK(std::filesystem::is_empty(scratch.path));
  write_dump(scratch / "a.h5", dump, 8, false);
  CHECK(code_of([&] { create_hdf5({scratch / "a.h5", false}, dump); }) == ErrorCode::invalid_argument);
  {
    const auto writer = create_hdf5({scratch / "a.h5", true}, dump);
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

TEST_CASE("hdf5: a reader and a writer at work at the same time") {
  const Scratch scratch;
  Dump dump;
  dump.tensors.push_back({"k", DType::f16, {64, 64}});
  write_dump(scratch / "a.h5", dump, 1 << 20, false);
  bool same = true;
  std::thread reading([&] {
    for (int i = 0; i < 20; ++i) {
      const auto reader = open_hdf5(scratch / "a.h5");
      same = same && read_all(*reader, 0) == pattern(64 * 64 * 2, 0);
    }
  });
  for (int i = 0; i < 20; ++i) write_dump(scratch / "b.h5", dump, 512, false);
  reading.join();
  CHECK(same);
  CHECK(read_all(*open_hdf5(scratch / "b.h5"), 0) == pattern(64 * 64 * 2, 0));
}

TEST_CASE("hdf5: names and attributes that HDF5 cannot hold are refused") {
  const Scratch scratch;
  const auto refused = [&](const std::vector<std::string>& names, const std::vector<Attribute>& attributes) {
    Dump dump;
    for (const std::string& name : names) dump.tensors.push_back({name, DType::u8, {0}});
    dump.attributes = attributes;
    const ErrorCode code = code_of([&] { create_hdf5({scratch / "a.h5", false}, dump); });
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
  CHECK(code_of([&] { create_hdf5({scratch / "a.h5", false}, deep); }) == ErrorCode::limit);
}

TEST_CASE("hdf5: boxes cover a dataset once, chunk by chunk") {
  const std::vector<std::vector<std::uint64_t>> shapes{{17}, {7, 9}, {5, 6, 7}, {1, 1, 4}, {3, 1, 2, 5}};
  for (const auto& shape : shapes) {
    for (const std::uint64_t step : {0u, 1u, 2u, 3u, 50u}) {
      for (const std::uint64_t limit : {1u, 2u, 7u, 12u, 40u, 1000u}) {
        const std::vector<std::uint64_t> chunk(step == 0 ? 0 : shape.size(), step);
        const hdf5::BoxGrid plan(shape, chunk, 2, limit * 2);
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
  const hdf5::BoxGrid rows({100, 64}, {8, 32}, 2, 2048);  // 16 rows of 64 elements
  CHECK(rows.count() == 7);
  rows.box(6, start, size);
  CHECK(start == std::vector<std::uint64_t>{96, 0});
  CHECK(size == std::vector<std::uint64_t>{4, 64});
  CHECK(hdf5::BoxGrid({}, {}, 2, 64).count() == 1);
  CHECK(hdf5::BoxGrid({3, 0}, {}, 2, 64).count() == 0);
  const hdf5::BoxGrid huge({std::uint64_t{1} << 40, 1 << 20}, {1 << 20, 1 << 8}, 1, 1 << 20);
  huge.box(huge.count() - 1, start, size);
  CHECK(start[0] + size[0] == std::uint64_t{1} << 40);
}
