// SPDX-License-Identifier: Apache-2.0
// HDF5 files that were cut or changed: an Error or some data, never a crash, a hang or a large allocation.
#include <doctest/doctest.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "formats/hdf5/hdf5.hpp"
#include "formats/hdf5/hdf5_chunks.hpp"
#include "kvzip/error.hpp"

using namespace kvzip;

/// What LeakSanitizer is not to report: the HDF5 library does not free everything when a file turns out to be damaged.
extern "C" const char* __lsan_default_suppressions() {  // NOLINT(bugprone-reserved-identifier): LeakSanitizer names it
  return "leak:libhdf5";
}

namespace {

struct TestFile {
  std::string path = (std::filesystem::temp_directory_path() / "kvzip-hdf5-XXXXXX").string();
  TestFile() {
    const int fd = ::mkstemp(path.data());
    REQUIRE(fd >= 0);
    ::close(fd);
  }
  ~TestFile() { ::unlink(path.c_str()); }
  void write(const std::string& bytes) const { std::ofstream(path, std::ios::binary) << bytes; }
};

std::string golden_bytes(const std::string& name) {
  std::ifstream in(fmt::format("{}/golden/hdf5/{}", KVZIP_TEST_DIR, name), std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

/// Reads everything, up to a bound; false when that ended in an Error.
bool readable(const std::string& path) {
  constexpr std::size_t kEnough = std::size_t{16} << 20;
  try {
    const auto reader = open_hdf5(path);
    std::size_t total = 0;
    for (std::uint64_t i = 0; i < reader->part_count() && total < kEnough; ++i) {
      Part part = reader->part(i);
      reader->fetch(part);
      for (const Bytes& data : part.data) total += data.size();
    }
    return true;
  } catch (const Error&) {
    return false;
  }
}

/// The first offset of the 8 bytes of a number.
std::size_t find_number(const std::string& bytes, std::uint64_t value) {
  std::string text;
  for (int i = 0; i < 8; ++i) text.push_back(static_cast<char>(value >> (8 * i)));
  const std::size_t at = bytes.find(text);
  REQUIRE(at != std::string::npos);
  return at;
}

}  // namespace

TEST_CASE("hdf5: truncated files") {
  const TestFile file;
  for (const char* name : {"small.h5", "small_latest.h5", "small_string.h5", "structure.h5"}) {
    const std::string bytes = golden_bytes(name);
    file.write(bytes);
    CHECK(readable(file.path));
    for (std::size_t size = 0; size < bytes.size(); size += size < 128 ? 1 : 61) {
      CAPTURE(size);
      file.write(bytes.substr(0, size));
      CHECK(!readable(file.path));
    }
  }
}

TEST_CASE("hdf5: changed bytes") {
  const TestFile file;
  for (const char* name : {"small.h5", "small_latest.h5", "small_string.h5", "structure.h5"}) {
    const std::string bytes = golden_bytes(name);
    const std::size_t step = bytes.size() < 3000 ? 1 : 7;
    std::size_t errors = 0;
    for (std::size_t at = 0; at < bytes.size(); at += step) {
      std::string changed = bytes;
      changed[at] = static_cast<char>(changed[at] ^ (at % 2 == 0 ? 0x01 : 0xff));
      file.write(changed);
      errors += readable(file.path) ? 0 : 1;
    }
    CHECK(errors > 30);
  }
}

TEST_CASE("hdf5: a shape that the file cannot hold") {
  const TestFile file;
  std::string bytes = golden_bytes("small.h5");
  // The shape {3, 4} is two numbers in a row, and the storage has 24 bytes.
  const std::size_t three = find_number(bytes, 3);
  for (const std::uint64_t extent : {std::uint64_t{1} << 60, std::uint64_t{1} << 62, std::uint64_t{100}}) {
    std::string changed = bytes;
    for (std::size_t i = 0; i < 8; ++i) changed[three + i] = static_cast<char>(extent >> (8 * i));
    file.write(changed);
    CHECK(!readable(file.path));
  }
}

TEST_CASE("hdf5: lengths and addresses that the library takes as they are") {
  const auto refused = [](const std::string& bytes) {
    const TestFile file;
    file.write(bytes);
    try {
      open_hdf5(file.path);
    } catch (const Error& error) {
      return std::string_view(error.what()).find("HDF5 says") == std::string_view::npos;  // it was not asked
    }
    return false;
  };
  const auto number = [](const std::string& bytes, std::size_t at) {
    std::uint64_t value = 0;
    std::memcpy(&value, bytes.data() + at, sizeof value);
    return static_cast<std::size_t>(value);
  };
  const std::string old = golden_bytes("small.h5"), latest = golden_bytes("small_latest.h5");
  REQUIRE(old[8] == 0);
  // Driver information behind the end, of nearly 4 GiB.
  std::string driver = old + std::string(4, '\0') + "\xff\xff\xff\xfe" + std::string(8, '\0');
  const std::uint64_t at = old.size();
  driver.replace(48, 8, reinterpret_cast<const char*>(&at), 8);
  CHECK(refused(driver));
  std::string header = old;
  header.replace(number(old, 64) + 8, 4, "\xff\xff\xff\xfe");
  CHECK(refused(header));
  // A node of a group's tree close to 2^64, before which the library's cache would read.
  std::string tree = old;
  const std::size_t node = tree.find("TREE");
  REQUIRE(node != std::string::npos);
  tree.replace(node + 32, 8, '\xf0' + std::string(7, '\xff'));
  CHECK(refused(tree));
  // An end before the file's, behind which the library reads nothing, and free space, which it takes for a header.
  const auto with_number = [&](std::size_t where, std::uint64_t value) {
    std::string changed = old;
    changed.replace(where, 8, reinterpret_cast<const char*>(&value), 8);
    return changed;
  };
  CHECK(refused(with_number(40, number(old, 64) + 20)));
  CHECK(refused(with_number(40, old.size() + 1)));
  CHECK(refused(with_number(32, 8)));
  // A free piece of the group's names that is the next one after itself, and one behind them.
  const std::size_t heap = old.find("HEAP");
  REQUIRE(heap != std::string::npos);
  for (const std::string& offset : {std::string(8, '\0'), '\0' + std::string("\x10") + std::string(6, '\0')}) {
    std::string circle = old;
    circle.replace(heap + 16, 8, offset);
    circle.replace(number(old, heap + 24), 8, offset);
    CHECK(refused(circle));
  }
  REQUIRE(latest[8] >= 2);
  const std::size_t root = number(latest, 36);
  REQUIRE(latest.substr(root, 4) == "OHDR");
  const auto flags = static_cast<unsigned char>(latest[root + 5]);
  std::string longer = latest;
  const std::size_t width = std::size_t{1} << (flags & 3), before = (flags & 0x20) != 0 ? 22 : 6;
  longer.replace(root + before + ((flags & 0x10) != 0 ? 4 : 0), width, std::string(width, '\xfe'));
  CHECK(refused(longer));
}

TEST_CASE("hdf5: text whose heap leads astray") {
  const TestFile file;
  const std::string bytes = golden_bytes("small_string.h5");
  const std::size_t heap = bytes.find("GCOL");
  REQUIRE(heap != std::string::npos);
  const auto change = [&](std::size_t at, std::uint64_t value) {
    std::string changed = bytes;
    for (std::size_t i = 0; i < 8; ++i) changed[heap + at + i] = static_cast<char>(value >> (8 * i));
    file.write(changed);
    return readable(file.path);
  };
  CHECK(change(8, 4096));  // as it is
  CHECK(!change(8, 0));
  CHECK(!change(8, std::uint64_t{1} << 50));
  CHECK(!change(24, ~std::uint64_t{0}));  // the object's size
  CHECK(!change(24, 2));
}

TEST_CASE("hdf5: chunks that unpack to something else") {
  constexpr int kDeflate = 1, kShuffle = 2, kFletcher32 = 3;
  const auto form = [](std::vector<hdf5::ChunkFilter> filters) { return hdf5::ChunkForm{{8}, 8, std::move(filters)}; };
  const auto unpacked = [](const hdf5::ChunkForm& chunk, std::size_t bytes, unsigned skipped = 0) {
    try {
      return hdf5::unpack_chunk(chunk, Bytes(bytes, std::byte{1}), skipped).size() == chunk.bytes;
    } catch (const Error& error) {
      CHECK(error.code() == ErrorCode::corrupt);
      return false;
    }
  };
  CHECK(unpacked(form({{kShuffle, 2}}), 8));
  CHECK(unpacked(form({{kShuffle, 0xffffffff}}), 8));
  CHECK(!unpacked(form({{kShuffle, 2}}), 7));
  CHECK(!unpacked(form({{kDeflate, 0}}), 8));
  CHECK(unpacked(form({{kDeflate, 0}}), 8, 1));
  CHECK(!unpacked(form({{kDeflate, 0}}), 0));
  CHECK(!unpacked(form({{kFletcher32, 0}}), 12));
  CHECK(!unpacked(form({{kFletcher32, 0}}), 3));
}

TEST_CASE("hdf5: no file, no HDF5, nothing") {
  const TestFile file;
  CHECK_THROWS_AS(open_hdf5(file.path + ".none"), Error);
  CHECK_THROWS_AS(open_hdf5("/"), Error);
  file.write("");
  CHECK_THROWS_AS(open_hdf5(file.path), Error);
  file.write("\x89HDF\r\n\x1a\n");
  CHECK_THROWS_AS(open_hdf5(file.path), Error);
}
