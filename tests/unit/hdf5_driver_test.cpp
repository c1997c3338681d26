// SPDX-License-Identifier: Apache-2.0
// How the HDF5 library gets at bytes, and what a file may make it do.
#include <doctest/doctest.h>

#include <fstream>
#include <iterator>

#include "formats/hdf5/hdf5.hpp"
#include "kvzip/trust.hpp"
#include "tests/unit/hdf5_support.hpp"

using namespace kvzip;
using namespace hdf5_test;

namespace {

Bytes content(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(in)), {});
  const auto* bytes = reinterpret_cast<const std::byte*>(text.data());
  return {bytes, bytes + text.size()};
}

}  // namespace

TEST_CASE("hdf5: memory is read as its file is") {
  const auto file = open_hdf5(golden("by_name.h5"));
  const Bytes bytes = content(golden("by_name.h5"));
  const auto memory = open_hdf5(InputFile(bytes, "memory"), false);
  CHECK(memory->dump().tensors == file->dump().tensors);
  CHECK(memory->dump().attributes == file->dump().attributes);
  CHECK(read_parts(*memory) == read_parts(*file));
}

TEST_CASE("hdf5: what all datasets together state is bounded") {
  const std::string three = golden("unwritten.h5");  // 512 MiB each
  CHECK(code_of([&] { open_hdf5(three); }) == ErrorCode::limit);
  trust_files(true);
  CHECK(open_hdf5(three)->dump().tensors.size() == 3);
  trust_files(false);
}
