// SPDX-License-Identifier: Apache-2.0
#include "formats/hdf5/hdf5_library.hpp"

#include <hdf5.h>
#include <sys/mman.h>

#include <new>
#include <string>
#include <type_traits>

#include "codec/fail.hpp"
#include "formats/hdf5/hdf5.hpp"
#include "formats/text.hpp"

namespace kvzip::hdf5 {

static_assert(std::is_same_v<Id, hid_t>, "HDF5 1.10 or later");

namespace {

std::recursive_mutex& library_mutex() {
  static std::recursive_mutex mutex;
  return mutex;
}

/// After a damaged file the library cannot always clean up when the process ends, and prints that. Every file is closed
/// by its owner, so nothing is left to do then.
void skip_cleanup_at_exit() {
  static const int done = H5dont_atexit();
  static_cast<void>(done);
}

constexpr char kKept[] = "the fault that is kept";  // what the library's stack of errors says of it

/// Behind the mutex.
std::exception_ptr& kept_fault() {
  static std::exception_ptr fault;
  return fault;
}

struct Fault {
  std::string text;
  bool truncated = false, system = false, memory = false;
};

/// Of memory that is the process's own, as the heap is.
bool has_room(std::size_t bytes) {
  void* const room = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return room != MAP_FAILED && ::munmap(room, bytes) == 0;
}

/// Called from the innermost error outwards. Exceptions must not cross the library's frames.
herr_t note_fault(unsigned, const H5E_error2_t* error, void* data) noexcept {
  Fault& fault = *static_cast<Fault*>(data);
  try {
    if (fault.text.empty() && error->desc != nullptr) fault.text = error->desc;
  } catch (...) {
    return -1;
  }
  if (error->maj_num == H5E_RESOURCE && (error->min_num == H5E_NOSPACE || error->min_num == H5E_CANTALLOC)) {
    fault.memory = true;
  }
  if (error->min_num == H5E_TRUNCATED || error->min_num == H5E_OVERFLOW) fault.truncated = true;
  // The system's refusals carry errno in their text; reading past the end is no refusal.
  if (error->maj_num == H5E_IO && fault.text.find("errno = ") != std::string::npos) fault.system = true;
  return 0;
}

/// Of "file write failed: time = ..., filename = ..., errno = 28, error message = 'No space left on device', ...",
/// the part for people.
std::string system_reason(const std::string& text) {
  constexpr std::string_view kBefore = "error message = '";
  const std::size_t begin = text.find(kBefore);
  if (begin == std::string::npos) return text;
  const std::size_t from = begin + kBefore.size();
  return text.substr(from, text.find('\'', from) - from);
}

}  // namespace

Session::Session() : lock_(library_mutex()) {
  skip_cleanup_at_exit();
  H5Eget_auto2(H5E_DEFAULT, &report_, &report_data_);
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
}

Session::~Session() {
  H5Eset_auto2(H5E_DEFAULT, report_, report_data_);
}

bool is_unallocated() {
  bool found = false;
  const auto note = [](unsigned depth, const H5E_error2_t* error, void* out) -> herr_t {
    constexpr std::string_view kText = "chunk storage is not allocated";
    if (depth == 0 && error->desc != nullptr) *static_cast<bool*>(out) = error->desc == kText;
    return 0;
  };
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, note, &found);
  return found;
}

void require_memory() {
  constexpr std::size_t kCall = std::size_t{4} << 20;
  if (!has_room(kCall)) throw std::bad_alloc();
}

void keep_fault(std::exception_ptr fault) {
  kept_fault() = std::move(fault);
  H5Epush2(H5E_DEFAULT, __FILE__, __func__, __LINE__, H5E_ERR_CLS, H5E_IO, H5E_READERROR, kKept);
}

void fail_library(ErrorCode code, std::string_view what) {
  Fault fault;
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, note_fault, &fault);
  if (fault.text == kKept && kept_fault() != nullptr) std::rethrow_exception(std::exchange(kept_fault(), nullptr));
  // A file can state more than any machine has; then there is room enough for everything else.
  constexpr std::size_t kMuch = std::size_t{64} << 20;
  if (fault.memory && !has_room(kMuch)) throw std::bad_alloc();
  if (fault.text.empty()) fault.text = "no reason given";
  if (code == ErrorCode::corrupt && fault.truncated) code = ErrorCode::truncated;
  if (fault.system) fail(ErrorCode::io, "{}: {}", what, system_reason(fault.text));
  fail(code, "{}: HDF5 says {}", what, quoted(fault.text));
}

}  // namespace kvzip::hdf5

std::string kvzip::hdf5_version() {
  const hdf5::Session session;
  unsigned major = 0, minor = 0, release = 0;
  H5get_libversion(&major, &minor, &release);
  return fmt::format("{}.{}.{}", major, minor, release);
}
