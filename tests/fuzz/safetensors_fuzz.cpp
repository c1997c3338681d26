// SPDX-License-Identifier: Apache-2.0
// Any bytes either give an Error or a dump that can be read whole and written again to the same dump.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>

#include "formats/safetensors.hpp"
#include "formats/safetensors_header.hpp"
#include "kvzip/error.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace kvzip;
  FileDescriptor fd(::memfd_create("fuzz", 0));
  if (::write(fd.get(), data, size) != static_cast<ssize_t>(size)) return 0;
  try {
    const auto reader = open_safetensors(InputFile(std::move(fd), "input"));
    std::uint64_t bytes = 0;
    for (std::uint64_t i = 0; i < reader->part_count(); ++i) {
      Part part = reader->part(i);
      reader->fetch(part);
      for (const Bytes& slice : part.data) bytes += slice.size();
    }
    if (bytes > size) std::abort();
    const Dump again = parse_safetensors_header(safetensors_header_text(reader->dump()), bytes).dump;
    if (again.tensors != reader->dump().tensors || again.attributes != reader->dump().attributes) std::abort();
  } catch (const Error&) {
  }
  return 0;
}
