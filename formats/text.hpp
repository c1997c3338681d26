// SPDX-License-Identifier: Apache-2.0
// Text from files, made safe to print.
#pragma once

#include <string>
#include <string_view>

#include "kvzip/dtype.hpp"

namespace kvzip {

/// Lower-case hexadecimal.
std::string to_hex(ByteView bytes);
bool is_utf8(std::string_view text);
struct Quoted {
  std::string operator()(std::string_view text) const;
};
/// quoted('text'): in single quotes for a message, control characters and bytes that are not UTF-8 as \xNN, long text
/// cut. An object, because std::quoted would be found too for a function's std::string.
inline constexpr Quoted quoted;

/// fail(corrupt) on what is no hexadecimal text of a header.
Bytes unhex(const std::string& text);

}  // namespace kvzip
