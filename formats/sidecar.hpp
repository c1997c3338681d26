// SPDX-License-Identifier: Apache-2.0
// What somebody has written beside files that do not say it themselves: their layout, and their order.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "formats/raw.hpp"
#include "kvzip/dump.hpp"

namespace kvzip {

/// In a folder: what holds for all files in it.
inline constexpr std::string_view kFolderSidecar = "kvzip.json";
/// Behind the name of a file: what holds for it alone, in place of that.
inline constexpr std::string_view kFileSidecar = ".kvzip.json";

struct Sidecar {
  std::optional<RawLayout> raw;       // of files of bare elements
  std::vector<std::string> files;     // of the folder, in the order of their tokens
  std::vector<Attribute> attributes;  // of files of bare elements: "metadata"
};

/// {"raw": "kv:2LTHD:bf16:2x32x-x8x128", "files": ["a", "b"], "metadata": {"model": "m"}}, each of which may be
/// missing. `files` are names without folders. fail(corrupt) for anything else, fail(limit) for more than a MiB.
Sidecar parse_sidecar(std::string_view text);
/// That of a folder; nothing where there is none. Errors begin with its name.
std::optional<Sidecar> sidecar_of_folder(const std::string& folder);
/// That of a file, or that of its folder.
std::optional<Sidecar> sidecar_of_file(const std::string& path);

}  // namespace kvzip
