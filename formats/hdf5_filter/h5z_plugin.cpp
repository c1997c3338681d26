// SPDX-License-Identifier: Apache-2.0
// The filter as HDF5 loads it. It calls nothing of HDF5, so that it suits whichever HDF5 has loaded it: a program's
// own, or that of a Python package.
#include <H5PLextern.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <span>

#include "formats/hdf5_filter/h5z_chunk.hpp"

namespace {

using namespace kvzip;

/// HDF5 frees the memory of a chunk with free().
std::byte* allocate(std::size_t size) {
  void* memory = std::malloc(std::max<std::size_t>(size, 1));
  if (memory == nullptr) throw std::bad_alloc();
  return static_cast<std::byte*>(memory);
}

void replace(void** buffer, std::size_t* room, std::byte* memory, std::size_t size) {
  std::free(*buffer);
  *buffer = memory;
  *room = size;
}

/// The number of bytes in `*buffer` afterwards; 0 when it cannot be done, and the chunk is as it was.
std::size_t filter(unsigned flags, std::size_t count, const unsigned parameters[], std::size_t bytes, std::size_t* room,
                   void** buffer) {
  try {
    const std::span<const unsigned> settings(parameters, count);
    const ByteView chunk(static_cast<const std::byte*>(*buffer), bytes);
    if ((flags & H5Z_FLAG_REVERSE) == 0) {
      const Bytes coded = h5z::encode_chunk(settings, chunk);
      std::byte* memory = allocate(coded.size());
      std::memcpy(memory, coded.data(), coded.size());
      replace(buffer, room, memory, coded.size());
      return coded.size();
    }
    const std::size_t size = h5z::chunk_bytes(settings, chunk);
    std::unique_ptr<std::byte, decltype(&std::free)> memory(allocate(size), &std::free);
    h5z::decode_chunk(settings, chunk, {memory.get(), size});
    replace(buffer, room, memory.release(), size);
    return size;
  } catch (const std::exception& error) {
    // HDF5 says that a filter failed, there too, but not why.
    std::fprintf(stderr, "kvzip's HDF5 filter: %s\n", error.what());
    return 0;
  }
}

const H5Z_class2_t kClass = {H5Z_CLASS_T_VERS, h5z::kFilterId, 1, 1, "kvzip", nullptr, nullptr, filter};

}  // namespace

H5PL_type_t H5PLget_plugin_type() {
  return H5PL_TYPE_FILTER;
}

const void* H5PLget_plugin_info() {
  return &kClass;
}
