// SPDX-License-Identifier: Apache-2.0
// A virtual file driver (HDF5 Virtual File Layer).
#include "formats/hdf5/hdf5_driver.hpp"

#include <hdf5.h>
#if H5_VERSION_GE(1, 13, 2)
#include <H5FDdevelop.h>
#endif
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <new>
#include <span>

#include "codec/fail.hpp"
#include "formats/file_calls.hpp"

namespace kvzip::hdf5 {
namespace {

constexpr char kName[] = "file";  // the only one that can be opened

/// What a file is opened with: one of the two.
struct Place {
  const InputFile* input = nullptr;
  Output* output = nullptr;
};

/// The library knows it by its first member.
struct OpenFile {
  H5FD_t library;
  Place bytes;
  haddr_t end_of_addresses;
};

OpenFile& opened(H5FD_t* file) {
  return *reinterpret_cast<OpenFile*>(file);
}
const OpenFile& opened(const H5FD_t* file) {
  return *reinterpret_cast<const OpenFile*>(file);
}

/// Exceptions must not cross the library's frames.
template <typename F>
herr_t guarded(const Place& bytes, F f) noexcept {
  try {
    f();
    return 0;
  } catch (...) {
    if (bytes.output != nullptr) bytes.output->keep_failure();
    keep_fault(std::current_exception());
    return -1;
  }
}

haddr_t length_of(const Output& output) {
  struct stat status {};
  if (::fstat(output.descriptor(), &status) != 0) fail_errno(output.name(), "examine");
  return static_cast<haddr_t>(status.st_size);
}

/// What was never written is zeros.
void read_back(const Output& output, haddr_t address, std::span<std::byte> out) {
  while (!out.empty()) {
    const ssize_t got = ::pread(output.descriptor(), out.data(), out.size(), static_cast<off_t>(address));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail_errno(output.name(), "read");
    if (got == 0) break;
    out = out.subspan(static_cast<std::size_t>(got));
    address += static_cast<haddr_t>(got);
  }
  std::ranges::fill(out, std::byte{0});
}

void set_length(const Output& output, haddr_t bytes) {
  if (::ftruncate(output.descriptor(), static_cast<off_t>(bytes)) != 0) fail_errno(output.name(), "write");
}

H5FD_t* open_file(const char* name, unsigned flags, hid_t access, haddr_t) noexcept {
  const void* bytes = H5Pget_driver_info(access);
  if (bytes == nullptr || std::strcmp(name, kName) != 0) return nullptr;
  auto* file = new (std::nothrow) OpenFile{};
  if (file == nullptr) return nullptr;
  std::memcpy(&file->bytes, bytes, sizeof file->bytes);
  Output* output = file->bytes.output;
  const bool writes = (flags & H5F_ACC_RDWR) != 0, empties = (flags & H5F_ACC_TRUNC) != 0;
  if (writes && output == nullptr) {
    delete file;
    return nullptr;
  }
  if (empties) output->attempt([&] { set_length(*output, 0); });
  return &file->library;
}

herr_t close_file(H5FD_t* file) noexcept {
  delete &opened(file);
  return 0;
}

/// Of input the library keeps no pieces in buffers of its own.
herr_t query(const H5FD_t* file, unsigned long* features) noexcept {
  constexpr unsigned long kAsOthers = H5FD_FEAT_DEFAULT_VFD_COMPATIBLE;
  constexpr unsigned long kCollect = H5FD_FEAT_AGGREGATE_METADATA | H5FD_FEAT_ACCUMULATE_METADATA |
                                     H5FD_FEAT_DATA_SIEVE | H5FD_FEAT_AGGREGATE_SMALLDATA;
  const bool writes = file != nullptr && opened(file).bytes.output != nullptr;
  *features = writes ? kAsOthers | kCollect : kAsOthers;
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
  const Place& bytes = opened(file).bytes;
  if (bytes.input != nullptr) return bytes.input->size();
  haddr_t end = HADDR_UNDEF;
  guarded(bytes, [&] { end = length_of(*bytes.output); });
  return end;
}

herr_t read(H5FD_t* file, H5FD_mem_t, hid_t, haddr_t address, std::size_t count, void* out) noexcept {
  const Place& bytes = opened(file).bytes;
  const std::span<std::byte> to{static_cast<std::byte*>(out), count};
  return guarded(bytes, [&] {
    if (bytes.input != nullptr) return bytes.input->read_at(address, to);
    read_back(*bytes.output, address, to);
  });
}

herr_t write(H5FD_t* file, H5FD_mem_t, hid_t, haddr_t address, std::size_t count, const void* from) noexcept {
  Output* output = opened(file).bytes.output;
  if (output == nullptr) return -1;
  output->attempt([&] {
    write_all_at(output->descriptor(), address, {static_cast<const std::byte*>(from), count}, output->name());
  });
  return 0;
}

herr_t truncate(H5FD_t* file, hid_t, hbool_t) noexcept {
  const OpenFile& open = opened(file);
  Output* output = open.bytes.output;
  if (output == nullptr) return 0;
  output->attempt([&] {
    if (length_of(*output) != open.end_of_addresses) set_length(*output, open.end_of_addresses);
  });
  return 0;
}

H5FD_class_t make_driver() {
  H5FD_class_t driver{};
#if H5_VERSION_GE(1, 13, 2)
  constexpr int kPrivateUse = 256;
  driver.version = H5FD_CLASS_VERSION;
  driver.value = static_cast<H5FD_class_value_t>(kPrivateUse);
#endif
  driver.name = "kvzip";
  driver.maxaddr = ~std::uint64_t{0} >> 1;
  driver.fc_degree = H5F_CLOSE_STRONG;
  driver.fapl_size = sizeof(Place);
  driver.open = open_file;
  driver.close = close_file;
  driver.query = query;
  driver.get_eoa = end_of_addresses;
  driver.set_eoa = set_end_of_addresses;
  driver.get_eof = end_of_file;
  driver.read = read;
  driver.write = write;
  driver.truncate = truncate;
  constexpr std::array<H5FD_mem_t, H5FD_MEM_NTYPES> kPlaces = H5FD_FLMAP_DICHOTOMY;
  std::ranges::copy(kPlaces, driver.fl_map);
  return driver;
}

Handle make_access(const Place& bytes) {
  static const H5FD_class_t driver = make_driver();
  static Id id = -1;
  if (id < 0) id = H5FDregister(&driver);
  Handle access = own(H5Pcreate(H5P_FILE_ACCESS), H5Pclose, ErrorCode::io, "cannot open");
  check(H5Pset_fclose_degree(access.get(), H5F_CLOSE_STRONG), ErrorCode::io, "cannot open");
  check(H5Pset_driver(access.get(), id, &bytes), ErrorCode::io, "cannot open");
  return access;
}

}  // namespace

Handle open_input(const InputFile& input) {
  const Handle access = make_access({&input, nullptr});
  return own(H5Fopen(kName, H5F_ACC_RDONLY, access.get()), H5Fclose, kBad, "cannot open");
}

Handle open_output(Output& output) {
  const Handle access = make_access({nullptr, &output});
  return own(H5Fopen(kName, H5F_ACC_RDWR, access.get()), H5Fclose, kBad, "cannot open");
}

Handle create_output(Output& output, Id options) {
  const Handle access = make_access({nullptr, &output});
  // From 1.8 on, metadata has checksums and large attributes have a place.
  check(H5Pset_libver_bounds(access.get(), H5F_LIBVER_V18, H5F_LIBVER_LATEST), ErrorCode::io, "cannot create");
  return own(H5Fcreate(kName, H5F_ACC_TRUNC, options, access.get()), H5Fclose, ErrorCode::io, "cannot create");
}

}  // namespace kvzip::hdf5
