// SPDX-License-Identifier: Apache-2.0
// The file formats: how each is recognised, opened and created. A new format is one row.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/file.hpp"
#include "kvzip/io.hpp"

namespace kvzip {

/// Bytes from the front of a file that recognition looks at.
inline constexpr std::size_t kProbeBytes = 4096;

struct Format {
  std::string_view name;
  std::string_view extensions;  // separated by spaces, the usual one first
  std::string_view help;        // one line
  bool (*probe)(ByteView first);
  std::unique_ptr<DumpReader> (*open)(InputFile file);
  /// No function: a file of this format needs more than a dump to be created.
  std::unique_ptr<DumpWriter> (*create)(Destination to, const Dump& dump);
  /// What a file of this name does not say of a dump; no function: it says all, or create() refuses.
  std::vector<std::string> (*losses)(const Dump& dump, std::string_view path) = nullptr;
  /// The length of a file that begins so, where its header says it; what is too short is left to open().
  std::uint64_t (*stated_bytes)(InputStream& in) = nullptr;
};
std::span<const Format> format_table();

/// The format of a file that starts with these bytes. Otherwise fails with what the file looks like.
const Format& probe_format(ByteView first, const std::string& path);

/// A file of any format, or standard input as "-". Of a pipe no more is copied than its header tells of.
InputFile open_input(const std::string& path);

}  // namespace kvzip
