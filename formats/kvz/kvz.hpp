// SPDX-License-Identifier: Apache-2.0
// What the library itself needs of the container beyond kvzip/container.hpp.
#pragma once

#include <memory>

#include "formats/file.hpp"
#include "kvzip/container.hpp"

namespace kvzip {

/// A container from a stream, which must outlive the reader.
std::unique_ptr<KvzReader> open_kvz(InputStream& stream);

}  // namespace kvzip
