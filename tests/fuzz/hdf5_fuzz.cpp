// SPDX-License-Identifier: Apache-2.0
// Any bytes, read as HDF5, either give an Error or a dump that can be read whole.
// The HDF5 library opens files by their names only, and asks where a name below /proc leads: memory is copied to a
// temporary file for it.
#include <algorithm>
#include <cstdlib>
#include <span>

#include "formats/hdf5/hdf5.hpp"
#include "kvzip/error.hpp"
#include "kvzip/layout.hpp"

namespace {

using namespace kvzip;

std::unique_ptr<DumpReader> open(ByteView bytes) {
  return open_hdf5(InputFile(bytes, "input"), true);
}

/// Whether input gets as far as the HDF5 library at all.
bool opens_files() {
  InputFile seed(KVZIP_TEST_DIR "/fuzz/corpus/hdf5/small.h5");
  Bytes bytes(seed.size());
  seed.read_at(0, bytes);
  return open(bytes)->dump().tensors.size() == 1;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr std::uint64_t kMostBytes = std::uint64_t{1} << 24;  // of a dump: chunks that are not stored cost nothing
  static const bool opens = opens_files();
  if (!opens) std::abort();
  try {
    const auto reader = open(std::as_bytes(std::span(data, size)));
    recognise(reader->dump());
    std::uint64_t bytes = 0;
    for (std::uint64_t i = 0; i < reader->part_count() && bytes < kMostBytes; ++i) {
      Part part = reader->part(i);
      reader->fetch(part);
      reader->expand(part);
      for (const Bytes& one : part.data) bytes += std::max<std::uint64_t>(one.size(), 1);
    }
  } catch (const Error&) {
  }
  return 0;
}
