// SPDX-License-Identifier: Apache-2.0
// What the library itself needs of the container beyond kvzip/container.hpp.
#pragma once

#include <memory>

#include "formats/file.hpp"
#include "kvzip/container.hpp"

namespace kvzip {

std::unique_ptr<KvzReader> open_kvz(InputFile file);
/// One container of a file: a segment_file() of formats/kvz/kvz_segments.hpp, appended or not.
std::unique_ptr<KvzReader> open_kvz_segment(InputFile file);
/// A container from a stream, which must outlive the reader. `appended`: it stands behind another in its file.
std::unique_ptr<KvzReader> open_kvz(InputStream& stream, bool appended = false);

}  // namespace kvzip
