// SPDX-License-Identifier: Apache-2.0
// Sessions and sequences (slots) of llama.cpp, for reading.
#pragma once

#include <memory>

#include "formats/file.hpp"
#include "kvzip/io.hpp"

namespace kvzip {

/// Tensors: token_ids, positions, keys and values by layer, with streams.S. before their names where there are several
/// streams, and what follows in the file as bytes. Values in blocks of quantised types become F32.
std::unique_ptr<DumpReader> open_llama(InputFile file);

}  // namespace kvzip
