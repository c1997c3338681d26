// SPDX-License-Identifier: Apache-2.0
// The text of the record "results" of a container (man/kvz.5).
#pragma once

#include <string>
#include <string_view>

#include "kvzip/container.hpp"

namespace kvzip {

std::string write_kvz_results(const KvzResults& results);
/// Hostile text; fail(corrupt).
KvzResults read_kvz_results(std::string_view text);

}  // namespace kvzip
