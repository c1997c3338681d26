// SPDX-License-Identifier: Apache-2.0
// Chunks of LMCache's file connector (.data): a header of 32-bit integers that says type and shape, and the elements.
#pragma once

#include <memory>

#include "formats/file.hpp"
#include "kvzip/io.hpp"

namespace kvzip {

/// These first bytes of a file are such a header: the length that it states is that of the shapes that it states.
bool is_lmcache(ByteView first);
/// One tensor kv_cache or, where a header has several groups, group_0, group_1 and so on.
std::unique_ptr<DumpReader> open_lmcache(InputFile file);
/// As Format::stated_bytes.
std::uint64_t lmcache_bytes(InputStream& in);

}  // namespace kvzip
