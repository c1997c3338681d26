// SPDX-License-Identifier: Apache-2.0
// --rm: inputs that have their container go away.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "formats/file.hpp"
#include "src/cli/options.hpp"

namespace kvzip::tool {

/// What a name stands for, and when it was last written to.
struct Seen {
  FileIdentity file;
  std::uintmax_t bytes = 0;
  std::filesystem::file_time_type written;
  bool operator==(const Seen&) const = default;
};
/// Nothing for what is no regular file.
std::optional<Seen> seen(const std::string& path);

/// Inputs as they are before they are read. UsageError for what cannot be removed: folders and pipes, and what goes
/// into a pipe.
std::vector<Seen> inputs_to_remove(const std::vector<std::string>& in, const std::string& out);

/// Takes inputs away once the container `out` has been read again from end to end. A name that stands for something
/// else by now keeps it, and is a failure.
void remove_inputs(const std::vector<std::string>& in, const std::vector<Seen>& read, const std::string& out,
                   const Common& common);

}  // namespace kvzip::tool
