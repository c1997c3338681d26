// SPDX-License-Identifier: Apache-2.0
// Any bytes, read as HDF5, either give an Error or a dump that can be read whole.
// The HDF5 library opens files by their names only: the input is one in memory, which has a name below /proc.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>

#include "formats/hdf5/hdf5.hpp"
#include "kvzip/error.hpp"
#include "kvzip/layout.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace kvzip;
  constexpr std::uint64_t kMostBytes = std::uint64_t{1} << 24;  // of a dump: chunks that are not stored cost nothing
  FileDescriptor fd(::memfd_create("fuzz", 0));
  if (::write(fd.get(), data, size) != static_cast<ssize_t>(size)) return 0;
  try {
    const auto reader = open_hdf5(InputFile(std::move(fd), "input"), true);
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
