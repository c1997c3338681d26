// SPDX-License-Identifier: Apache-2.0
// Makes an HDF5 file again, from what was beside its tensors and the tensors (hdf5_frame.hpp).
#pragma once

#include <memory>

#include "formats/file.hpp"
#include "kvzip/io.hpp"

namespace kvzip::hdf5 {

/// Of a dump without a frame.
std::unique_ptr<DumpWriter> create_plain(Destination to, const Dump& dump);
/// For a part of the output `path`: finish() completes it, and it stays where it is. `part` outlives the writer.
std::unique_ptr<DumpWriter> create_plain(const TemporaryFile& part, const std::string& path, const Dump& dump);
/// `frame`: the tensor that is the frame. It is left out where it is not of these tensors.
std::unique_ptr<DumpWriter> create_framed(Destination to, const Dump& dump, std::size_t frame);

}  // namespace kvzip::hdf5
