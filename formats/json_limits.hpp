// SPDX-License-Identifier: Apache-2.0
// What a hostile JSON text would cost, before it is parsed: a tree of small values takes far more memory than its text.
#pragma once

#include <string_view>

namespace kvzip {

/// fail(corrupt) for lists and objects nested too deep, fail(limit) for too many values (codec/limits.hpp) or where the
/// memory for them is not to be had. That is tried here because a parser that runs out of memory halfway cannot be
/// relied upon to clean up.
void check_json(std::string_view text, std::string_view what);

}  // namespace kvzip
