// SPDX-License-Identifier: Apache-2.0
// Any bytes, in any format but HDF5 and the container, either give an Error or a dump that can be read whole, quantised
// caches of MLX as their values.
#include "formats/format_table.hpp"
#include "kvzip/error.hpp"
#include "kvzip/layout.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace kvzip;
  const ByteView bytes{reinterpret_cast<const std::byte*>(data), size};
  try {
    const std::string_view format = probe_format(bytes, "input").name;
    if (format == "hdf5" || format == "kvz") return 0;
    const auto reader = open_reader(bytes, "input");
    recognise(reader->dump());
    for (std::uint64_t i = 0; i < reader->part_count(); ++i) {
      Part part = reader->part(i);
      reader->fetch(part);
      reader->expand(part);
    }
  } catch (const Error&) {
  }
  return 0;
}
