// SPDX-License-Identifier: Apache-2.0
// A container and what was appended to it, as one.
#pragma once

#include <memory>
#include <vector>

#include "formats/file.hpp"
#include "formats/kvz/kvz_segments.hpp"
#include "kvzip/container.hpp"

namespace kvzip {

/// `segments` has at least one, and `open` makes a reader of each that keeps so many bytes of what it has decoded.
using OpenSegment = std::unique_ptr<KvzReader> (*)(InputFile file, std::uint64_t cache_bytes);
std::unique_ptr<KvzReader> open_appended(InputFile file, const Segments& segments, OpenSegment open);

}  // namespace kvzip
