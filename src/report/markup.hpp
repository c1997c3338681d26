// SPDX-License-Identifier: Apache-2.0
// Text from users and files inside pages and pictures.
#pragma once

#include <string>
#include <string_view>

namespace kvzip::tool {

/// UTF-8 without control characters, whatever the bytes were; longer texts are cut and end with "...".
std::string plain_text(std::string_view text, std::size_t most = 4096);
/// plain_text() for HTML and XML, inside elements and quoted attributes.
std::string escape_markup(std::string_view text);

}  // namespace kvzip::tool
