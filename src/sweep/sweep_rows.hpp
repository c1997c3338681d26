// SPDX-License-Identifier: Apache-2.0
// Finished rows of a sweep in a folder (--resume), and what a row's bytes are counted as.
#pragma once

#include "src/sweep/sweep_run.hpp"

namespace kvzip::tool {

ByteKind byte_kind(StreamLabel label);

/// One row's file. Its name is a hash of everything that the row's figures follow from: the program's version, path,
/// size and time of change of the dump and of files of queries, the recipe and all options. A pipe has no such file.
class RowStore {
 public:
  RowStore(const std::string& path, const SweepRequest& request, const Recipe& recipe);
  /// The row and what is known of its dump; nothing when it has not been measured, or its file is damaged.
  std::optional<Sweep> load() const;
  void save(const SweepDump& dump, const SettingResult& row) const;

 private:
  std::string file_;  // empty without --resume
};

}  // namespace kvzip::tool
