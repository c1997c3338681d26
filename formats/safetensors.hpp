// SPDX-License-Identifier: Apache-2.0
// safetensors files.
#pragma once

#include <memory>
#include <string>

#include "formats/file.hpp"
#include "kvzip/io.hpp"

namespace kvzip {

std::unique_ptr<DumpReader> open_safetensors(InputFile file);
/// As Format::stated_bytes.
std::uint64_t safetensors_bytes(InputStream& in);
/// The path "-" writes standard output. Parts may come in any order, cut in any way.
std::unique_ptr<DumpWriter> create_safetensors(Destination to, const Dump& dump);

}  // namespace kvzip
