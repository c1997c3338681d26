// SPDX-License-Identifier: Apache-2.0
// HDF5 files that hold more than a dump can: all of it comes back beside the tensors.
#include "formats/hdf5/hdf5_frame.hpp"

#include <fstream>
#include <iterator>

#include "kvzip/io.hpp"
#include "tests/unit/hdf5_support.hpp"

using namespace hdf5_test;

namespace {

std::string file_bytes(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

/// Writes what the reader reads, in its parts or in smaller ones, from the last to the first.
void write_again(DumpReader& reader, const Dump& dump, const std::string& path, bool backwards = false) {
  const auto writer = create_hdf5({path, true}, dump);
  if (!backwards) {
    transcode(reader, *writer, 1);
  } else {
    for (std::size_t t = dump.tensors.size(); t-- > 0;) {
      for (Slice& slice : split_contiguous(dump.tensors[t], t, 100)) {
        Part part;
        part.data.emplace_back(slice.elements() * slice_unit(dump.tensors[t]));
        reader.read(slice, part.data[0]);
        part.slices.push_back(std::move(slice));
        writer->append(part);
      }
    }
  }
  writer->finish();
}

/// What it holds, tensors and what is beside them, by name; not where in the file it lies.
std::string said(const std::string& path) {
  const auto reader = open_hdf5(path);
  std::string out;
  for (const TensorInfo& info : reader->dump().tensors) out += info.name + "\n";
  for (const std::string& one : hdf5_left_out(*reader)) out += one + "\n";
  return out;
}

}  // namespace

TEST_CASE("hdf5: what is no tensor comes back as it was") {
  const Scratch scratch;
  for (const char* name : {"structure.h5", "links.h5", "names.h5", "user_block.h5"}) {
    for (const bool backwards : {false, true}) {
      CAPTURE(name);
      const auto reader = open_reader(golden(name));
      REQUIRE(reader->dump().tensors.back().name == kHdf5Frame);
      CHECK(hdf5_losses(reader->dump(), "").empty());
      write_again(*reader, reader->dump(), scratch / "again.h5", backwards);
      CHECK(file_bytes(scratch / "again.h5") == file_bytes(golden(name)));
    }
  }
  // No tensors at all, and a file that needs no such tensor.
  for (const char* name : {"strings.h5", "compound.h5", "opaque.h5", "no_shape.h5"}) {
    CAPTURE(name);
    const auto reader = open_reader(golden(name));
    CHECK(reader->dump().tensors.size() == 1);
    write_again(*reader, reader->dump(), scratch / "again.h5");
    CHECK(file_bytes(scratch / "again.h5") == file_bytes(golden(name)));
  }
  CHECK(open_reader(golden("by_name.h5"))->dump().tensors.size() == 5);
}

TEST_CASE("hdf5: chunks, fill values, byte orders and user blocks stay beside other values") {
  const Scratch scratch;
  const std::string path = golden("beside.h5");
  const auto reader = open_reader(path);
  const std::size_t frame = tensor_index(*reader, kHdf5Frame);
  CHECK(reader->dump().tensors[frame].bytes() < std::filesystem::file_size(path));
  write_again(*reader, reader->dump(), scratch / "again.h5");
  CHECK(said(scratch / "again.h5") == said(path));
  // Other values, in the same places.
  const auto changed = create_hdf5({scratch / "changed.h5", false}, reader->dump());
  std::vector<Bytes> written;
  for (std::size_t t = 0; t < reader->dump().tensors.size(); ++t) {
    Bytes data = read_all(*reader, t);
    if (t != frame) std::reverse(data.begin(), data.end());
    written.push_back(data);
    Part part;
    part.slices.push_back(
        {t, std::vector<std::uint64_t>(reader->dump().tensors[t].shape.size(), 0), reader->dump().tensors[t].shape});
    part.data.push_back(std::move(data));
    changed->append(part);
  }
  changed->finish();
  CHECK(said(scratch / "changed.h5") == said(path));
  const auto back = open_reader(scratch / "changed.h5");
  for (std::size_t t = 0; t < written.size(); ++t) {
    if (t != frame) CHECK(read_all(*back, t) == written[t]);
  }
}

TEST_CASE("hdf5: a dataset without data behind a user block leaves no hole") {
  const Scratch scratch;
  const auto reader = open_reader(golden("nowhere.h5"));
  REQUIRE(reader->dump().tensors.back().name == kHdf5Frame);
  // Two numbers in front, two for the hole of layers.0.key, and all but its 16 bytes.
  CHECK(reader->dump().tensors.back().bytes() == 32 + std::filesystem::file_size(golden("nowhere.h5")) - 16);
  write_again(*reader, reader->dump(), scratch / "again.h5");
  CHECK(said(scratch / "again.h5") == said(golden("nowhere.h5")));
  CHECK(read_all(*open_hdf5(scratch / "again.h5"), 1) == Bytes(16));
}

TEST_CASE("hdf5: of other tensors, what was beside is left out by name") {
  const Scratch scratch;
  const auto reader = open_reader(golden("names.h5"));
  Dump dump = reader->dump();
  dump.attributes.push_back(text("", "note", "new"));
  CHECK(hdf5_losses(dump, "") == std::vector<std::string>{"what its HDF5 file held beside all of its tensors"});
  write_again(*reader, dump, scratch / "plain.h5");
  const auto back = open_hdf5(scratch / "plain.h5");
  CHECK(back->dump().tensors.size() == 2);
  CHECK(hdf5_left_out(*back).empty());
  CHECK(has(back->dump(), text("", "note", "new")));
}

TEST_CASE("hdf5: bytes that are no such file are refused") {
  const Scratch scratch;
  const auto reader = open_reader(golden("names.h5"));
  const std::size_t frame = tensor_index(*reader, kHdf5Frame);
  const Bytes good = read_all(*reader, frame);
  const auto refused = [&](const Bytes& bytes) {
    return code_of([&] {
      const auto writer = create_hdf5({scratch / "bad.h5", true}, reader->dump());
      for (std::size_t t = 0; t < reader->dump().tensors.size(); ++t) {
        Part part;
        part.data.push_back(t == frame ? bytes : read_all(*reader, t));
        part.slices.push_back({t, std::vector<std::uint64_t>(reader->dump().tensors[t].shape.size(), 0),
                               reader->dump().tensors[t].shape});
        writer->append(part);
      }
      writer->finish();
    });
  };
  for (std::size_t at = 0; at < 48; ++at) {
    CAPTURE(at);
    Bytes bad = good;
    bad[at] ^= std::byte{0x40};
    const ErrorCode code = refused(bad);
    CHECK((code == ErrorCode::corrupt || code == ErrorCode::truncated));
    CHECK(!std::filesystem::exists(scratch / "bad.h5"));
  }
  // Of other tensors: the same length, and the name of one changed in all places.
  Bytes other = good;
  std::string text(reinterpret_cast<const char*>(other.data()), other.size());
  for (std::size_t at = text.find("value"); at != std::string::npos; at = text.find("value", at)) text[at] = 'w';
  std::memcpy(other.data(), text.data(), text.size());
  CHECK(refused(other) == ErrorCode::corrupt);
}
