// SPDX-License-Identifier: Apache-2.0
// The filter as HDF5 loads it. It is linked with no HDF5, so that it suits whichever has loaded it: a program's own, or
// that of a Python package. The few functions that it calls it looks up in the one that calls it.
#include <H5PLextern.h>
#include <dlfcn.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <span>
#include <vector>

#include "codec/fail.hpp"
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

// Of H5Tpublic.h.
constexpr int kFloat = 1, kInteger = 0, kLittleEndian = 0, kUnordered = 4;

/// Functions of the HDF5 that has `within` in its code.
class Host {
 public:
  explicit Host(const void* within) {
    if (dladdr(within, &place_) == 0) return;
    handle_ = dlopen(place_.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
    if (handle_ == nullptr) handle_ = dlopen(nullptr, RTLD_LAZY);  // a program that HDF5 is linked into
  }
  Host(const Host&) = delete;
  Host& operator=(const Host&) = delete;
  ~Host() {
    if (handle_ != nullptr) dlclose(handle_);
  }

  /// Null where there is none, or only another HDF5's.
  template <typename Function>
  Function* find(const char* name) const {
    void* found = handle_ != nullptr ? dlsym(handle_, name) : nullptr;
    Dl_info place{};
    if (found == nullptr || dladdr(found, &place) == 0 || place.dli_fbase != place_.dli_fbase) return nullptr;
    return reinterpret_cast<Function*>(found);
  }

 private:
  Dl_info place_{};
  void* handle_ = nullptr;
};

/// What can be asked of HDF5 here, as H5Ppublic.h and H5Tpublic.h declare it.
struct Questions {
  using GetFilter = herr_t(hid_t, H5Z_filter_t, unsigned*, std::size_t*, unsigned*, std::size_t, char*, unsigned*);
  using GetFilterAt = H5Z_filter_t(hid_t, unsigned, unsigned*, std::size_t*, unsigned*, std::size_t, char*, unsigned*);
  explicit Questions(const Host& host)
      : get_filter(host.find<GetFilter>("H5Pget_filter_by_id2")),
        get_filter_at(host.find<GetFilterAt>("H5Pget_filter2")),
        get_chunk(host.find<int(hid_t, int, hsize_t*)>("H5Pget_chunk")),
        get_class(host.find<int(hid_t)>("H5Tget_class")),
        get_size(host.find<std::size_t(hid_t)>("H5Tget_size")),
        get_order(host.find<int(hid_t)>("H5Tget_order")),
        get_fields(host.find<herr_t(hid_t, std::size_t*, std::size_t*, std::size_t*, std::size_t*, std::size_t*)>(
            "H5Tget_fields")) {}
  bool complete() const {
    return get_filter != nullptr && get_filter_at != nullptr && get_chunk != nullptr && get_class != nullptr &&
           get_size != nullptr && get_order != nullptr && get_fields != nullptr;
  }

  GetFilter* get_filter;
  GetFilterAt* get_filter_at;
  int (*get_chunk)(hid_t, int, hsize_t*);
  int (*get_class)(hid_t);
  std::size_t (*get_size)(hid_t);
  int (*get_order)(hid_t);
  herr_t (*get_fields)(hid_t, std::size_t*, std::size_t*, std::size_t*, std::size_t*, std::size_t*);
};

h5z::Dataset dataset_of(const Questions& ask, hid_t creation, hid_t type) {
  h5z::Dataset out;
  std::array<hsize_t, 32> chunk{};  // HDF5 has 32 dimensions at most
  const int rank = ask.get_chunk(creation, static_cast<int>(chunk.size()), chunk.data());
  const int kind = ask.get_class(type);
  if (rank < 0 || (kind != kFloat && kind != kInteger)) {
    fail(ErrorCode::invalid_argument, "the dataset has no chunks of numbers");
  }
  out.chunk.assign(chunk.begin(), chunk.begin() + std::min<std::size_t>(chunk.size(), static_cast<std::size_t>(rank)));
  out.element_bytes = ask.get_size(type);
  const int order = ask.get_order(type);
  out.little_endian = order == kLittleEndian || order == kUnordered || out.element_bytes == 1;
  std::size_t sign = 0, exponent = 0, exponent_bits = 0, mantissa = 0, mantissa_bits = 0;
  if (kind == kFloat && ask.get_fields(type, &sign, &exponent, &exponent_bits, &mantissa, &mantissa_bits) >= 0) {
    out.exponent_bits = exponent_bits;
  }
  return out;
}

void say(const std::exception& error) {
  // HDF5 says that a filter failed, there too, but not why.
  std::fprintf(stderr, "kvzip's HDF5 filter: %s\n", error.what());
}

/// Asked when a dataset is made. Less than 0 keeps it from being made, even where the filter is optional, as h5py has
/// filters: HDF5 would else store chunks as they are. Where HDF5 cannot be asked, each chunk is checked by itself.
htri_t can_apply(hid_t creation, hid_t type, hid_t) {
  try {
    const Host host(__builtin_return_address(0));
    const Questions ask(host);
    if (!ask.complete()) return 1;
    std::size_t count = 0;
    unsigned flags = 0, config = 0;
    if (ask.get_filter(creation, h5z::kFilterId, &flags, &count, nullptr, 0, nullptr, &config) < 0) return 1;
    constexpr std::size_t kMostAsked = 256;  // H5Pget_filter_by_id2 takes a larger number for a mistake
    if (count > kMostAsked) return 1;
    std::size_t none = 0;
    if (ask.get_filter_at(creation, 0, &flags, &none, nullptr, 0, nullptr, &config) != h5z::kFilterId) {
      fail(ErrorCode::invalid_argument, "another filter comes before it, as shuffle: it would code what that makes");
    }
    std::vector<unsigned> settings(count);
    if (ask.get_filter(creation, h5z::kFilterId, &flags, &count, settings.data(), 0, nullptr, &config) < 0) return 1;
    h5z::check_dataset(settings, dataset_of(ask, creation, type));
    return 1;
  } catch (const std::exception& error) {
    say(error);
    return -1;
  }
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
    say(error);
    return 0;
  }
}

const H5Z_class2_t kClass = {H5Z_CLASS_T_VERS, h5z::kFilterId, 1, 1, "kvzip", can_apply, nullptr, filter};

}  // namespace

H5PL_type_t H5PLget_plugin_type() {
  return H5PL_TYPE_FILTER;
}

const void* H5PLget_plugin_info() {
  return &kClass;
}
