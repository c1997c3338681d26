// SPDX-License-Identifier: Apache-2.0
// Many files, a line for each.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kvzip/container.hpp"

namespace kvzip::tool {

/// What is most asked for of a file.
struct Listed {
  std::size_t tensors = 0;
  std::uint64_t source = 0, bytes = 0;  // of tensors, and of the file; 0 = not known
  std::string preset;                   // of a container
  std::optional<KvzBase> base;
};

/// What `open` gives; but a container whose first tokens are in another that is not here is shown by itself.
std::unique_ptr<DumpReader> open_shown(const std::string& file,
                                       const std::function<std::unique_ptr<DumpReader>()>& open);
/// Reads a pipe to its end: fail(unsupported) where another container follows, so that what the first says is not all.
void read_out(DumpReader& reader);
/// True for a folder that is more than one dump: containers stand in it.
bool holds_containers(const std::string& folder);
/// The files to list, in the order of the command line: collections as their members, folders that hold containers as
/// the dumps and containers in them, and with `recursive` every folder as those in it and below.
std::vector<std::string> files_to_list(const std::vector<std::string>& paths, bool recursive);
/// Cells of a table: name, tensors, source bytes, file bytes, ratio, preset.
std::vector<std::string> row_of(const std::string& name, const Listed& one);
/// Lists what can be opened; the status is that of the rest.
int list_each(const std::vector<std::string>& files, const std::function<void(const std::string&, const Listed&)>& add);
/// What list_each() says of all of them, as a table on standard output.
int list_files(const std::vector<std::string>& files);

}  // namespace kvzip::tool
