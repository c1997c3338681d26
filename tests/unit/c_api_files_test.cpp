// SPDX-License-Identifier: Apache-2.0
// The C interface: dumps of files in one process know nothing of each other.
#include <fcntl.h>

#include <filesystem>
#include <thread>

#include "tests/unit/c_api_dumps.hpp"
#include "tests/unit/file_support.hpp"

namespace kvzip::test {
namespace {

struct Files {
  ScratchDirectory scratch;
  mode_t mask = ::umask(022);
  Small small;
  ~Files() { ::umask(mask); }

  std::string made(const Handle& dump, const char* name) const {
    const std::string path = scratch.file(name);
    REQUIRE(kvzip_compress(dump.get(), "int8", path.c_str(), KVZIP_OVERWRITE) == KVZIP_OK);
    return path;
  }
  /// Of a mode; the file itself goes.
  unsigned mode_from(const Handle& dump, const char* name = "out") const {
    const std::string path = made(dump, name);
    const unsigned mode = mode_of(path);
    std::filesystem::remove(path);
    return mode;
  }
  /// A container of the small dump, opened.
  Handle dump(const char* name, unsigned mode) const {
    const std::string path = made(small.dump, name);
    ::chmod(path.c_str(), mode);
    return open(path);
  }
  static Handle open(const std::string& path) {
    kvzip_dump* dump = nullptr;
    REQUIRE(kvzip_open(path.c_str(), &dump) == KVZIP_OK);
    return {dump, &kvzip_close};
  }
};

int read_all(const Handle& dump) {
  std::vector<float> key(kTensorBytes / 4), value(key);
  std::vector<std::int64_t> ids(kTokens);
  void* const buffers[] = {key.data(), value.data(), ids.data()};
  return kvzip_read_all(dump.get(), buffers, 3);
}

int read_one(const Handle& dump) {
  std::vector<float> key(kTensorBytes / 4);
  return kvzip_read(dump.get(), 0, key.data(), kTensorBytes);
}

int to_memory(const Handle& dump) {
  void* bytes = nullptr;
  std::size_t size = 0;
  const int status = kvzip_compress_memory(dump.get(), "int8", &bytes, &size);
  kvzip_free(bytes);
  return status;
}

TEST_CASE("C: an output is as private as the dump it is made from, whatever else is open") {
  const Files files;
  CHECK(files.mode_from(files.small.dump) == 0644);
  {
    const Handle secret = files.dump("secret.kvz", 0600), open = files.dump("open.kvz", 0644);
    CHECK(read_all(secret) == KVZIP_OK);
    CHECK(files.mode_from(files.small.dump) == 0644);
    CHECK(files.mode_from(open) == 0644);
    CHECK(files.mode_from(secret) == 0600);
    const std::string path = files.scratch.file("ordered.kvz");
    REQUIRE(kvzip_compress_by_tokens(secret.get(), "chunk = 4\nkv = quant:bits=8:axis=token,rans", 4, path.c_str(),
                                     0) == KVZIP_OK);
    CHECK(mode_of(path) == 0600);
    // And what is made of arrays that are said to be its.
    const Small arrays;
    CHECK(kvzip_made_from(arrays.dump.get(), secret.get()) == KVZIP_OK);
    CHECK(files.mode_from(arrays.dump) == 0600);
    CHECK(kvzip_made_from(open.get(), secret.get()) == KVZIP_INVALID);
    CHECK(kvzip_made_from(arrays.dump.get(), nullptr) == KVZIP_INVALID);
    // Side by side, too.
    bool right = true;
    std::thread other([&] {
      for (int i = 0; i < 20; ++i) right = right && files.mode_from(secret, "other") == 0600;
    });
    for (int i = 0; i < 20; ++i) CHECK(files.mode_from(open) == 0644);
    other.join();
    CHECK(right);
  }
  CHECK(files.mode_from(files.small.dump) == 0644);
  ::umask(077);  // of now, not of the first output
  CHECK(files.mode_from(files.small.dump) == 0600);
}

TEST_CASE("C: a file that changes while it is open is refused, and no other dump is") {
  const Files files;
  const Handle changed = files.dump("changed.kvz", 0644), open = files.dump("open.kvz", 0644);
  const std::string path = files.scratch.file("changed.kvz");
  const auto others_work = [&] {
    CHECK(files.mode_from(files.small.dump) == 0644);
    CHECK(to_memory(files.small.dump) == KVZIP_OK);
    CHECK(to_memory(open) == KVZIP_OK);
    CHECK(read_all(open) == KVZIP_OK);
    CHECK(read_one(open) == KVZIP_OK);
  };
  CHECK(read_all(changed) == KVZIP_OK);
  const timespec long_ago[2] = {{1000, 0}, {1000, 0}};
  ::utimensat(AT_FDCWD, path.c_str(), long_ago, 0);
  for (const auto& use : {read_all, read_one, to_memory}) {
    CHECK(use(changed) == KVZIP_IO);
    CHECK(says("changed.kvz: the file was written to while it was read"));
  }
  others_work();
  ::truncate(path.c_str(), 100);
  CHECK(read_all(changed) == KVZIP_TRUNCATED);
  others_work();
}

}  // namespace
}  // namespace kvzip::test
