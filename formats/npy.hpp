// SPDX-License-Identifier: Apache-2.0
// NumPy's .npy, one array, and .npz, a zip archive of them.
//
// What a dump has no type for (texts, records, pickled objects, complex128, long double) is a tensor of bytes whose
// attribute numpy.header says what they are, and goes back as it was; nothing is unpickled. In a .npz, a text without
// dimensions is an attribute of the file, and other attributes are such texts (formats/attribute_text.hpp).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "formats/file.hpp"
#include "kvzip/io.hpp"

namespace kvzip {

/// The tensor is called like the file.
std::unique_ptr<DumpReader> open_npy(InputFile file);
/// As Format::stated_bytes.
std::uint64_t npy_bytes(InputStream& in);
std::unique_ptr<DumpReader> open_npz(InputFile file);
/// fail(unsupported) unless the dump has one tensor.
std::unique_ptr<DumpWriter> create_npy(Destination to, const Dump& dump);
std::unique_ptr<DumpWriter> create_npz(Destination to, const Dump& dump);
/// What a .npy file of this name does not say of a dump.
std::vector<std::string> npy_losses(const Dump& dump, std::string_view path);

}  // namespace kvzip
