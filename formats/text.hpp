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
/// 'text' in single quotes for a message: control characters and bytes that are not UTF-8 as \xNN, long text cut.
/// Where <iomanip> is included call it kvzip::quoted, because std::quoted is found for a std::string too.
std::string quoted(std::string_view text);

}  // namespace kvzip
