// SPDX-License-Identifier: Apache-2.0
// Finished rows of a sweep in a folder (--resume), and what a row's bytes are counted as.
#pragma once

#include "src/sweep/sweep_run.hpp"

namespace kvzip::tool {

ByteKind byte_kind(StreamLabel label);

/// One row's file. Its name is a hash of everything that the row's figures follow from: the program's version, path,
/// size and time of change of the dump and of files of queries, the recipe and all options. Its last line is a checksum
/// of all that and of the row. A pipe has no such file.
class RowStore {
 public:
  RowStore(const std::string& path, const SweepRequest& request, const Recipe& recipe);
  /// The row and what is known of its dump; nothing when it has not been measured, or when its file is not what save()
  /// has written, which is said. fail(io) for what is no regular file.
  std::optional<Sweep> load() const;
  void save(const SweepDump& dump, const SettingResult& row) const;

 private:
  std::string file_;   // empty without --resume
  std::string basis_;  // what its name is a hash of
};

}  // namespace kvzip::tool
