// SPDX-License-Identifier: Apache-2.0
// What a hostile JSON text would cost, before it is parsed: a tree of small values takes far more memory than its text.
#pragma once

#include <string_view>

namespace kvzip {

/// fail(corrupt) for lists and objects nested too deep, fail(limit) for too many values (codec/limits.hpp).
void check_json_items(std::string_view text, std::string_view what);
/// And that there is the memory for a tree of them, else fail(limit). That is tried here because a parser that runs out
/// of memory halfway cannot be relied upon to clean up. Text that may be large is read without one: json_text.hpp.
void check_json(std::string_view text, std::string_view what);

}  // namespace kvzip
