// SPDX-License-Identifier: Apache-2.0
// Sessions and sequences (slots) of llama.cpp.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "formats/file.hpp"
#include "kvzip/io.hpp"

namespace kvzip {

/// Tensors: token_ids, positions, keys and values by layer, with streams.S. before their names where there are several
/// streams, cells where they say more than positions and the same sequences, and what follows in the file as bytes. A
/// second cache has swa. or index. before all of these, and its layers are counted on; recurrent states are bytes.
/// Blocks of quantised types are rows of bytes (formats/ggml_values.hpp).
std::unique_ptr<DumpReader> open_llama(InputFile file);
/// fail(unsupported) unless the dump is what open_llama() made of a file, with its values as they were or others.
std::unique_ptr<DumpWriter> create_llama(Destination to, const Dump& dump);
/// Metadata that is not of llama.cpp, and types that the file had and values no longer have.
std::vector<std::string> llama_losses(const Dump& dump, std::string_view path);

}  // namespace kvzip
