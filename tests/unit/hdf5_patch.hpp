// SPDX-License-Identifier: Apache-2.0
// What tests of changed HDF5 files share.
#pragma once

#include <array>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>

#include "tests/unit/hdf5_support.hpp"

namespace hdf5_test {

inline std::string file_text(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

inline std::uint64_t number_at(const std::string& bytes, std::size_t at, std::size_t width) {
  std::uint64_t value = 0;
  std::memcpy(&value, bytes.data() + at, width);
  return value;
}

/// One structure of a file, to be found by its signature and what stands after the version: a type or a size.
struct Structure {
  std::string_view signature;
  std::uint64_t kind = 0;
  std::size_t kind_bytes = 1;
  std::size_t skip = 0;  // so many of these before it
};

inline std::size_t find(const std::string& bytes, const Structure& wanted) {
  std::size_t left = wanted.skip;
  for (std::size_t at = bytes.find(wanted.signature); at != std::string::npos;
       at = bytes.find(wanted.signature, at + 4)) {
    const bool right = wanted.kind_bytes == 0 || number_at(bytes, at + 5, wanted.kind_bytes) == wanted.kind;
    if (right && left-- == 0) return at;
  }
  FAIL("no structure " << wanted.signature);
  return 0;
}

struct Patch {
  Structure structure;
  std::size_t offset = 0, width = 0;
  std::uint64_t value = 0;
};

inline std::string patched(std::string bytes, std::initializer_list<Patch> patches) {
  for (const Patch& p : patches) {
    std::memcpy(bytes.data() + find(bytes, p.structure) + p.offset, &p.value, p.width);
  }
  return bytes;
}

/// What reading these bytes fails with; empty when it does not. Checksums of what was changed are wrong, so that it has
/// to be refused before the library looks at them.
inline std::string refusal(const std::string& bytes, ErrorCode code = ErrorCode::corrupt) {
  const Scratch scratch;
  const std::string path = scratch / "changed.h5";
  std::ofstream(path, std::ios::binary) << bytes;
  try {
    open_hdf5(path);
  } catch (const Error& error) {
    CHECK(error.code() == code);
    return error.what();
  }
  return {};
}

inline bool contains(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

}  // namespace hdf5_test
