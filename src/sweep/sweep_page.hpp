// SPDX-License-Identifier: Apache-2.0
// The style sheet and the script of the page that `kvzip sweep --report` writes.
#pragma once

#include <string_view>

namespace kvzip::tool {

extern const std::string_view kPageStyle;
/// Sorts tables of class "sortable" by their headings, and draws heat maps from the JSON of the element "layers".
extern const std::string_view kPageScript;

}  // namespace kvzip::tool
