// SPDX-License-Identifier: Apache-2.0
// A container whose first tokens stand in another one beside it (man/kvz.5, "Shared prefixes").
#pragma once

#include <memory>
#include <string>

#include "formats/file.hpp"
#include "kvzip/container.hpp"

namespace kvzip {

/// `own` goes on where the first tokens of `base` end, as its description says. fail(corrupt) where it does not.
std::unique_ptr<KvzReader> open_shared(std::unique_ptr<KvzReader> own, std::unique_ptr<KvzReader> base);

/// Opens the container that `stated` names, beside `path`, and checks that it is the one. `depth`: bases above it.
std::unique_ptr<KvzReader> open_base(const KvzBase& stated, const std::string& path, unsigned depth);

}  // namespace kvzip
