// SPDX-License-Identifier: Apache-2.0
// How datasets lie in their files: chunks, lengths up to which they may grow, fill values.
#include "formats/hdf5/hdf5_storage.hpp"

#include <fstream>
#include <iterator>

#include "tests/unit/hdf5_support.hpp"

using namespace hdf5_test;
using hdf5::parse_storage;
using hdf5::Storage;
using hdf5::storage_text;

namespace {

constexpr std::uint64_t kNoEnd = ~std::uint64_t{0};

std::string file_bytes(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

std::string storage_of(const Dump& dump, const std::string& object) {
  for (const Attribute& a : dump.attributes) {
    if (a.object == object && a.name == kHdf5Storage) return a.strings.at(0);
  }
  return {};
}

Dump with_storage(std::vector<std::uint64_t> shape, const std::string& said, DType dtype = DType::f16) {
  Dump dump;
  dump.tensors.push_back({"t", dtype, std::move(shape)});
  dump.attributes.push_back(text("t", std::string(kHdf5Storage), said));
  return dump;
}

/// What becomes of it for a tensor of this shape.
std::string fitted(std::vector<std::uint64_t> shape, const std::string& said, DType dtype = DType::f16) {
  const hdf5::StoragePlan plan = hdf5::plan_storage(with_storage(std::move(shape), said, dtype));
  if (!plan.stated.at(0)) return "not stated";
  return storage_text(plan.tensors.at(0)) + (plan.merged.empty() ? "" : "merged");
}

/// Writes all of it in boxes of a few bytes, in order or backwards.
void write_all(DumpReader& reader, const Dump& dump, const std::string& path, bool backwards) {
  const auto writer = create_hdf5({path, true}, dump);
  for (std::size_t t = 0; t < dump.tensors.size(); ++t) {
    std::vector<Slice> slices = split_contiguous(dump.tensors[t], t, 12);
    if (backwards) std::reverse(slices.begin(), slices.end());
    for (Slice& slice : slices) {
      Part part;
      part.data.emplace_back(slice.elements() * slice_unit(dump.tensors[t]));
      reader.read(slice, part.data[0]);
      part.slices.push_back(std::move(slice));
      writer->append(part);
    }
  }
  writer->finish();
}

}  // namespace

TEST_CASE("hdf5: storage as text and back") {
  const Storage all{{1, 64}, {kNoEnd, 0}, true, {std::byte{0x07}, std::byte{0xff}}};
  CHECK(storage_text(all) == "chunks=1,64 maxshape=*,0 order=big fill=07ff");
  CHECK(parse_storage("chunks=1,64 maxshape=*,0 order=big fill=07ff") == all);
  CHECK(parse_storage("fill=00") == Storage{{}, {}, false, {std::byte{0}}});
  CHECK(storage_text({}).empty());
  for (const char* bad : {"", " ", "chunks", "chunks=", "chunks=1,,2", "chunks=-1", "chunks=1, 2", "chunks=01",
                          "fill=0", "fill=zz", "fill=FF", "fill=00 chunks=1", "order=little", "order=big order=big",
                          "chunks=1 chunks=1", "chunks=1 note=2", "chunks=18446744073709551616", "chunks=1 "}) {
    CAPTURE(bad);
    CHECK(!parse_storage(bad));
  }
}

TEST_CASE("hdf5: chunks, lengths and fill values come back without what said so") {
  const Scratch scratch;
  const auto reader = open_hdf5(golden("types.h5"));
  const Dump& dump = reader->dump();
  CHECK(storage_of(dump, "f16_chunked") == "chunks=3,4,4");
  CHECK(storage_of(dump, "partly_written") == "chunks=2,3 order=big fill=07000000");  // 7, which lies as 00000007 there
  CHECK(storage_of(dump, "growing") == "chunks=4 maxshape=*");
  for (const char* name : {"f32_big_endian", "i16_big_endian", "complex_big_endian"}) {
    CHECK(storage_of(dump, name) == "order=big");
  }
  CHECK(storage_of(dump, "f16").empty());
  write_all(*reader, dump, scratch / "a.h5", false);
  write_all(*reader, dump, scratch / "b.h5", true);
  CHECK(file_bytes(scratch / "a.h5") == file_bytes(scratch / "b.h5"));
  CHECK(file_bytes(scratch / "a.h5").find(kHdf5Storage) == std::string::npos);
  const auto back = open_hdf5(scratch / "a.h5");
  CHECK(back->dump().attributes == dump.attributes);
  for (std::size_t t = 0; t < dump.tensors.size(); ++t) CHECK(read_all(*back, t) == read_all(*reader, t));
}

TEST_CASE("hdf5: bits of another type in big-endian integers go back into those") {
  const Scratch scratch;
  const auto reader = open_hdf5(golden("hints.h5"));
  CHECK(storage_of(reader->dump(), "bf16_u16_big_endian") == "order=big");
  write_all(*reader, reader->dump(), scratch / "a.h5", false);
  const auto back = open_hdf5(scratch / "a.h5");
  CHECK(back->dump().attributes == reader->dump().attributes);
  const std::size_t swapped = tensor_index(*back, "bf16_u16_big_endian");
  CHECK(read_all(*back, swapped) == read_all(*reader, tensor_index(*reader, "bf16_u16_big_endian")));
  // An unsigned integer of 2 bytes, big-endian, as a datatype message has it: version 1, class 0; size 2; 16 bits.
  const std::string big("\x10\x01\0\0\x02\0\0\0\0\0\x10\0", 12);
  CHECK(file_bytes(scratch / "a.h5").find(big) != std::string::npos);
}

TEST_CASE("hdf5: storage is cut to what a tensor has become") {
  CHECK(fitted({8, 6}, "chunks=3,4") == "chunks=3,4");
  CHECK(fitted({2, 6}, "chunks=3,4") == "chunks=2,4");
  CHECK(fitted({8, 6}, "chunks=3,4 maxshape=9,*") == "chunks=3,4 maxshape=9,*");
  CHECK(fitted({12, 6}, "chunks=10,40 maxshape=9,*") == "chunks=10,40 maxshape=12,*");
  CHECK(fitted({4, 6}, "chunks=10,40 maxshape=9,0") == "chunks=9,6 maxshape=9,0");
  CHECK(fitted({0, 6}, "chunks=3,4 maxshape=*,0") == "chunks=3,4 maxshape=*,0");
  // What cannot be, and is no loss of what the tensor has.
  CHECK(fitted({0, 6}, "chunks=3,4").empty());
  CHECK(fitted({8, 6}, "chunks=3,0").empty());
  CHECK(fitted({8, 6}, "chunks=48").empty());
  CHECK(fitted({}, "chunks=1").empty());
  CHECK(fitted({8, 6}, "maxshape=*,*").empty());
  CHECK(fitted({8, 6}, "chunks=3,4 maxshape=*") == "chunks=3,4");
  CHECK(fitted({8, 6}, "fill=0001") == "fill=0001");
  CHECK(fitted({8, 6}, "fill=00010203").empty());
  CHECK(fitted({8, 6}, "order=big") == "order=big");
  CHECK(fitted({8, 6}, "order=big", DType::boolean).empty());
  CHECK(fitted({8, 6}, "chunks=3,4,") == "not stated");
  CHECK(fitted({4, 6}, "chunks=5 fill=01", DType::f4) == "chunks=5 fill=01");  // of its 12 bytes
}

TEST_CASE("hdf5: chunks that would take much more than their data are one piece, which is told") {
  CHECK(fitted({65536}, "chunks=1") == "chunks=1");
  CHECK(fitted({1 << 20}, "chunks=1") == "merged");
  CHECK(fitted({1 << 28}, "chunks=2048") == "chunks=2048");
  // An end of a row of chunks is as large as the others.
  CHECK(fitted({1, 1}, "chunks=8192,4096 maxshape=*,*") == "chunks=8192,4096 maxshape=*,*");
  CHECK(fitted({1, 1}, "chunks=8192,8192 maxshape=*,*") == "merged");
  CHECK(fitted({1, 1}, "chunks=4294967296,4294967296 maxshape=*,*") == "merged");
  CHECK(fitted({1, 1}, "chunks=*,* maxshape=*,*") == "merged");
  CHECK(fitted({kNoEnd / 4}, "chunks=*", DType::u8) == "merged");  // above 1 GiB
  // All datasets together.
  Dump dump;
  for (const char* name : {"a", "b", "c"}) {
    dump.tensors.push_back({name, DType::u8, {30000}});
    dump.attributes.push_back(text(name, std::string(kHdf5Storage), "chunks=1"));
  }
  CHECK(hdf5::plan_storage(dump).merged == std::vector<std::size_t>{2});
  CHECK(hdf5_losses(dump, "") == std::vector<std::string>{"so many chunks as 'c' had"});
  dump.tensors.erase(dump.tensors.begin());
  CHECK(hdf5_losses(dump, "").empty());
}

TEST_CASE("hdf5: text of that name that says no storage is an attribute like others") {
  const Scratch scratch;
  for (const char* said : {"chunks=2,2", "hello"}) {
    const Dump dump = with_storage({3, 3}, said);
    const auto writer = create_hdf5({scratch / "a.h5", true}, dump);
    Part part;
    part.slices.push_back({0, {0, 0}, {3, 3}});
    part.data.emplace_back(18);
    writer->append(part);
    writer->finish();
    CHECK(open_hdf5(scratch / "a.h5")->dump().attributes == dump.attributes);
    CHECK((file_bytes(scratch / "a.h5").find(kHdf5Storage) == std::string::npos) == (said[0] == 'c'));
  }
}
