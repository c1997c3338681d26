// SPDX-License-Identifier: Apache-2.0
// The library's way to the bytes of a file that is read.
#pragma once

#include "formats/file.hpp"
#include "formats/hdf5/hdf5_library.hpp"

namespace kvzip::hdf5 {

/// Opens a file, or memory, for reading. `input` must outlive the id. Whatever address and length the file makes the
/// library ask for, nothing before the file's begin or behind its end is read, and no other file is opened for it (the
/// sources of virtual datasets, linked files). The library's own drivers give zeros for what lies behind the end of a
/// file that was cut, and follow addresses close to 2^64 out of their buffers.
Handle open_input(const InputFile& input);

}  // namespace kvzip::hdf5
