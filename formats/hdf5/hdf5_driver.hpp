// SPDX-License-Identifier: Apache-2.0
// The library's way to the bytes of files.
#pragma once

#include <exception>
#include <string>
#include <utility>

#include "formats/file.hpp"
#include "formats/hdf5/hdf5_library.hpp"

namespace kvzip::hdf5 {

/// Opens a file, or memory, for reading. `input` must outlive the id. Whatever address and length the file makes the
/// library ask for, nothing before the file's begin or behind its end is read, and no other file is opened for it (the
/// sources of virtual datasets, linked files). The library's own drivers give zeros for what lies behind the end of a
/// file that was cut, and follow addresses close to 2^64 out of their buffers.
Handle open_input(const InputFile& input);

/// A file under construction, which needs no name. `name` stands for it in messages. It outlives the ids.
///
/// The library writes much of it late, when it closes an object, and does not survive a failure then: HDF5 1.10 keeps
/// the id of what it has freed, and crashes when it cleans up. So it never learns that something could not be written:
/// the first failure is kept here, and nothing is written after it.
class Output {
 public:
  Output(int descriptor, std::string name) : descriptor_(descriptor), name_(std::move(name)) {}
  Output(const Output&) = delete;
  Output& operator=(const Output&) = delete;
  int descriptor() const { return descriptor_; }
  const std::string& name() const { return name_; }

  /// Keeps the exception that is being handled, if it is the first.
  void keep_failure() noexcept {
    if (!failure_) failure_ = std::current_exception();
  }
  /// For the driver: f writes, unless something could not be written before.
  template <typename F>
  void attempt(F f) noexcept {
    if (failure_) return;
    try {
      f();
    } catch (...) {
      keep_failure();
    }
  }
  /// Raises what was kept.
  void require_written() const {
    if (failure_) std::rethrow_exception(failure_);
  }
  /// Runs f, which makes the library write. What could not be written comes before what the library says of it.
  template <typename F>
  void run(F f) const {
    try {
      f();
    } catch (...) {
      require_written();
      throw;
    }
    require_written();
  }

 private:
  int descriptor_;
  std::string name_;
  std::exception_ptr failure_;
};
/// Makes a new HDF5 file of it, whatever it holds, as `options` (of class H5P_FILE_CREATE) say.
Handle create_output(Output& output, Id options);
/// Opens what is in it for reading and writing.
Handle open_output(Output& output);

}  // namespace kvzip::hdf5
