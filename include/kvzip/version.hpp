// SPDX-License-Identifier: Apache-2.0
// Which kvzip this is, and what it stands on.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace kvzip {

/// "0.2.0"
std::string_view version();

struct LibraryVersion {
  std::string name, version;
};
/// Of the libraries that code and files depend on, as they are loaded.
std::vector<LibraryVersion> library_versions();

}  // namespace kvzip
