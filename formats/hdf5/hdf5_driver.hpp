// SPDX-License-Identifier: Apache-2.0
// The library's way to the bytes of files.
#pragma once

#include <string>

#include "formats/file.hpp"
#include "formats/hdf5/hdf5_library.hpp"

namespace kvzip::hdf5 {

/// Opens a file, or memory, for reading. `input` must outlive the id. Whatever address and length the file makes the
/// library ask for, nothing before the file's begin or behind its end is read, and no other file is opened for it (the
/// sources of virtual datasets, linked files). The library's own drivers give zeros for what lies behind the end of a
/// file that was cut, and follow addresses close to 2^64 out of their buffers.
Handle open_input(const InputFile& input);

/// A file under construction, which needs no name. `name` stands for it in messages. Both outlive the ids.
struct Output {
  int descriptor = -1;
  std::string name;
};
/// Makes a new HDF5 file of it, whatever it holds, as `options` (of class H5P_FILE_CREATE) say.
Handle create_output(const Output& output, Id options);
/// Opens what is in it for reading and writing.
Handle open_output(const Output& output);

}  // namespace kvzip::hdf5
