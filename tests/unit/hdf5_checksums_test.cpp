// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <filesystem>
#include <map>
#include <string>

#include "formats/file.hpp"
#include "tests/support/hdf5_checksums.hpp"

namespace kvzip::test {
namespace {

using File = std::vector<std::uint8_t>;

File seed(const std::string& name) {
  const InputFile input(KVZIP_TEST_DIR "/fuzz/corpus/hdf5/" + name);
  File out(input.size());
  input.read_at(0, std::as_writable_bytes(std::span(out)));
  return out;
}

std::string signature(File& file, const Structure& s) {
  return {reinterpret_cast<const char*>(file.data()) + s.begin, 4};
}

/// How many of each there are, and how many of them have a number that says how long they are.
std::map<std::string, std::pair<int, int>> counted(File& file) {
  std::map<std::string, std::pair<int, int>> out;
  for (const Structure& s : find_structures(file)) {
    CHECK(s.checked);
    auto& [all, with_length] = out[signature(file, s)];
    all += 1;
    with_length += s.length ? 1 : 0;
  }
  return out;
}

}  // namespace

TEST_CASE("HDF5 checksums: the hash, as it was published") {
  std::string text = "Four score and seven years ago";  // lookup3.c, driver5
  const FileBytes bytes(reinterpret_cast<std::uint8_t*>(text.data()), text.size());
  CHECK(lookup3(bytes) == 0x17770551);
}

TEST_CASE("HDF5 checksums: all structures of a file are found, and what says how long they are") {
  using Counts = std::map<std::string, std::pair<int, int>>;
  const std::string superblock = "\x89HDF";
  File file = seed("dense_links_two_levels.h5");
  CHECK(counted(file) == Counts{{superblock, {1, 0}},
                                {"OHDR", {2, 2}},
                                {"FRHP", {1, 0}},
                                {"FHIB", {1, 1}},
                                {"FHDB", {2, 0}},
                                {"FSHD", {1, 0}},
                                {"FSSE", {1, 1}},
                                {"BTHD", {1, 0}},
                                {"BTIN", {1, 1}},
                                {"BTLF", {2, 2}}});
  file = seed("chunks_extensible_array_blocks.h5");
  CHECK(counted(file) == Counts{{superblock, {1, 0}},
                                {"OHDR", {2, 2}},
                                {"EAHD", {1, 0}},
                                {"EAIB", {1, 0}},
                                {"EADB", {7, 0}},
                                {"EASB", {1, 0}}});
  file = seed("small_latest.h5");
  CHECK(counted(file) ==
        Counts{{superblock, {1, 0}}, {"OHDR", {3, 3}}, {"OCHK", {1, 1}}, {"FAHD", {1, 0}}, {"FADB", {1, 1}}});
  file = seed("cache_image.h5");
  CHECK(counted(file)["MDCI"] == std::pair(1, 1));
  file = seed("shared_messages_list.h5");
  CHECK(counted(file)["SMLI"] == std::pair(1, 0));
}

TEST_CASE("HDF5 checksums: what was changed is sealed again, and what had no right checksum is left") {
  for (const auto& entry : std::filesystem::directory_iterator(KVZIP_TEST_DIR "/fuzz/corpus/hdf5")) {
    if (entry.path().extension() != ".h5") continue;
    CAPTURE(entry.path().string());
    const File before = seed(entry.path().filename().string());
    File file = before;
    const std::vector<Structure> found = find_structures(file);
    seal(file, found);
    CHECK(file == before);
    for (const Structure& s : found) {
      if (!s.checked) continue;
      file = before;
      file[s.begin + 4] ^= 0x80;  // the version: nothing's length
      File other = file;
      seal(other, find_structures(file));
      CHECK(other == file);
      seal(file, found);
      CHECK(file != other);
      const std::vector<Structure> again = find_structures(file);
      CHECK(std::ranges::any_of(again, [&](const Structure& a) { return a.begin == s.begin && a.checked; }));
    }
  }
}

TEST_CASE("HDF5 checksums: one moves with the number that says where it is") {
  File file = seed("small_latest.h5");
  const std::vector<Structure> found = find_structures(file);
  for (const Structure& s : found) {
    if (!s.length) continue;
    File longer = file;
    const Length& length = *s.length;
    put_number(longer, length.field, length.width, number_at(longer, length.field, length.width) - 1);
    seal(longer, found);
    const std::uint64_t sum = s.sum - length.unit;
    CHECK(number_at(longer, sum, kChecksum) == lookup3(FileBytes(longer).subspan(s.begin, sum - s.begin)));
  }
}

}  // namespace kvzip::test
