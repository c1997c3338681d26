// SPDX-License-Identifier: Apache-2.0
// A virtual file driver (HDF5 Virtual File Layer). It offers none of the features by which the library keeps pieces of
// the file in buffers of its own.
#include "formats/hdf5/hdf5_driver.hpp"

#include <hdf5.h>
#if H5_VERSION_GE(1, 13, 2)
#include <H5FDdevelop.h>
#endif

#include <algorithm>
#include <array>
#include <cstring>

namespace kvzip::hdf5 {
namespace {

constexpr char kName[] = "input";

/// The library knows it by its first member.
struct OpenFile {
  H5FD_t library;
  const InputFile* input;
  haddr_t end_of_addresses;
};

OpenFile& opened(H5FD_t* file) {
  return *reinterpret_cast<OpenFile*>(file);
}
const OpenFile& opened(const H5FD_t* file) {
  return *reinterpret_cast<const OpenFile*>(file);
}

H5FD_t* open_file(const char* name, unsigned flags, hid_t access, haddr_t) noexcept {
  const void* input = H5Pget_driver_info(access);
  if (input == nullptr || flags != H5F_ACC_RDONLY || std::strcmp(name, kName) != 0) return nullptr;
  auto* file = new (std::nothrow) OpenFile{};
  if (file == nullptr) return nullptr;
  std::memcpy(&file->input, input, sizeof file->input);
  return &file->library;
}

herr_t close_file(H5FD_t* file) noexcept {
  delete &opened(file);
  return 0;
}

herr_t query(const H5FD_t*, unsigned long* features) noexcept {
  *features = 0;
  return 0;
}

haddr_t end_of_addresses(const H5FD_t* file, H5FD_mem_t) noexcept {
  return opened(file).end_of_addresses;
}

herr_t set_end_of_addresses(H5FD_t* file, H5FD_mem_t, haddr_t address) noexcept {
  opened(file).end_of_addresses = address;
  return 0;
}

haddr_t end_of_file(const H5FD_t* file, H5FD_mem_t) noexcept {
  return opened(file).input->size();
}

herr_t read(H5FD_t* file, H5FD_mem_t, hid_t, haddr_t address, std::size_t bytes, void* out) noexcept {
  try {
    opened(file).input->read_at(address, {static_cast<std::byte*>(out), bytes});
    return 0;
  } catch (...) {
    keep_fault(std::current_exception());
    return -1;
  }
}

herr_t write(H5FD_t*, H5FD_mem_t, hid_t, haddr_t, std::size_t, const void*) noexcept {
  return -1;
}

H5FD_class_t make_driver() {
  H5FD_class_t driver{};
#if H5_VERSION_GE(1, 13, 2)
  constexpr int kPrivateUse = 256;
  driver.version = H5FD_CLASS_VERSION;
  driver.value = static_cast<H5FD_class_value_t>(kPrivateUse);
#endif
  driver.name = "kvzip_input";
  driver.maxaddr = ~std::uint64_t{0} >> 1;
  driver.fc_degree = H5F_CLOSE_STRONG;
  driver.fapl_size = sizeof(const InputFile*);
  driver.open = open_file;
  driver.close = close_file;
  driver.query = query;
  driver.get_eoa = end_of_addresses;
  driver.set_eoa = set_end_of_addresses;
  driver.get_eof = end_of_file;
  driver.read = read;
  driver.write = write;
  constexpr std::array<H5FD_mem_t, H5FD_MEM_NTYPES> kPlaces = H5FD_FLMAP_DICHOTOMY;
  std::ranges::copy(kPlaces, driver.fl_map);
  return driver;
}

}  // namespace

Handle open_input(const InputFile& input) {
  static const H5FD_class_t driver = make_driver();
  static const Id id = H5FDregister(&driver);
  const Handle options = own(H5Pcreate(H5P_FILE_ACCESS), H5Pclose, ErrorCode::io, "cannot open");
  check(H5Pset_fclose_degree(options.get(), H5F_CLOSE_STRONG), ErrorCode::io, "cannot open");
  const InputFile* const pointer = &input;
  check(H5Pset_driver(options.get(), id, &pointer), ErrorCode::io, "cannot open");
  return own(H5Fopen(kName, H5F_ACC_RDONLY, options.get()), H5Fclose, kBad, "cannot open");
}

}  // namespace kvzip::hdf5
