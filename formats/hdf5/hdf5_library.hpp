// SPDX-License-Identifier: Apache-2.0
// What every HDF5 call here needs: one caller at a time, silence, closed handles, errors as exceptions.
#pragma once

#include <cstdint>
#include <exception>
#include <mutex>
#include <string_view>
#include <utility>

#include "kvzip/error.hpp"

namespace kvzip::hdf5 {

/// What most that HDF5 refuses is.
inline constexpr auto kBad = ErrorCode::corrupt;

using Id = std::int64_t;  // hid_t, so that this header does not include HDF5's

/// Every HDF5 call, closing handles included, happens while one of these exists: the usual build of the library is not
/// thread-safe, and where it is, printing of errors is switched off per thread.
class Session {
 public:
  Session();
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

 private:
  std::lock_guard<std::recursive_mutex> lock_;
  int (*report_)(Id, void*) = nullptr;
  void* report_data_ = nullptr;
};

/// Throws std::bad_alloc unless there is room for what a call takes beside data. The library crashes when it gets none.
void require_memory();

/// Whether the library's last failure was to find a chunk that is not stored, as far as its words tell.
bool is_unallocated();

/// Called where an exception ends that must not cross the library's frames. The fail_library() of the call that fails
/// for it raises it.
void keep_fault(std::exception_ptr fault);

/// Raises what the library's error stack says last happened, behind `what`.
[[noreturn]] void fail_library(ErrorCode code, std::string_view what);

/// An id and the function that closes it.
class Handle {
 public:
  using Close = int (*)(Id);
  Handle() = default;
  Handle(Id id, Close close) : id_(id), close_(close) {}
  Handle(Handle&& other) noexcept : id_(std::exchange(other.id_, -1)), close_(other.close_) {}
  Handle& operator=(Handle&& other) noexcept {
    std::swap(id_, other.id_);
    std::swap(close_, other.close_);
    return *this;
  }
  ~Handle() {
    if (id_ >= 0) close_(id_);
  }
  Id get() const { return id_; }
  /// Closes now, where the result matters; negative when the library failed.
  int close() { return id_ >= 0 ? close_(std::exchange(id_, -1)) : 0; }

 private:
  Id id_ = -1;
  Close close_ = nullptr;
};

/// Takes ownership of a fresh id; a negative one is the library's failure to do `what`.
inline Handle own(Id id, Handle::Close close, ErrorCode code, std::string_view what) {
  if (id < 0) fail_library(code, what);
  return Handle(id, close);
}
/// Passes on a result of the library; a negative one is a failure to do `what`.
template <typename T>
T check(T result, ErrorCode code, std::string_view what) {
  if (result < 0) fail_library(code, what);
  return result;
}

}  // namespace kvzip::hdf5
