// SPDX-License-Identifier: Apache-2.0
// The files of src/sweep/page/, from which `kvzip sweep --report` makes its page.
#pragma once

#include <span>
#include <string_view>

namespace kvzip::tool {

struct PageFile {
  std::string_view name, text;  // the name without its extension: "style", "script"
};
std::span<const PageFile> page_files();

}  // namespace kvzip::tool
