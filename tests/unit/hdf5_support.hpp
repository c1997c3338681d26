// SPDX-License-Identifier: Apache-2.0
// What the HDF5 tests share.
#pragma once

#include <doctest/doctest.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "formats/hdf5/hdf5.hpp"
#include "kvzip/error.hpp"

namespace hdf5_test {

using namespace kvzip;

inline std::string golden(const std::string& name) {
  return KVZIP_TEST_DIR "/golden/hdf5/" + name;
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

inline ErrorCode code_of(const auto& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.code();
  }
  FAIL("no error");
  return ErrorCode::io;
}

inline std::size_t tensor_index(const DumpReader& reader, std::string_view name) {
  const auto& tensors = reader.dump().tensors;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    if (tensors[i].name == name) return i;
  }
  FAIL("no tensor " << name);
  return 0;
}

inline Bytes read_all(DumpReader& reader, std::size_t tensor) {
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
inline std::vector<Bytes> read_parts(DumpReader& reader) {
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

inline Attribute text(std::string object, std::string name, std::string value) {
  return {std::move(object), std::move(name), {std::move(value)}, {}, {}, {}};
}
inline Attribute marker(std::string object) {
  return {std::move(object), "", {}, {}, {}, {}};
}

inline bool has(const Dump& dump, const Attribute& attribute) {
  return std::find(dump.attributes.begin(), dump.attributes.end(), attribute) != dump.attributes.end();
}

}  // namespace hdf5_test
