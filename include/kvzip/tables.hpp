// SPDX-License-Identifier: Apache-2.0
// Data that many frames need (a basis, a codebook, a prior): stored once, in a container or in a file of tables beside
// it (.kvzd), and named by the pipelines that use it.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kvzip/dtype.hpp"

namespace kvzip {

enum class TableType : std::uint16_t { klt = 1, repeats = 2 };  // wire values
inline constexpr std::string_view kRepeatsTable = "repeats";    // the name of the one that stands for a dump

struct Table {
  std::string name;  // 1 to 64 letters, digits, '.', '_' and '-'; never one that reads as a hash
  TableType type = TableType::klt;
  Bytes bytes;             // meaning in man/kvzip-pipeline.7, with the stage that uses it
  std::uint64_t hash = 0;  // XXH3 with 64 bits of `bytes`

  /// The hash as pipelines write it: 16 lower-case hexadecimal digits.
  std::string hash_text() const;
  /// "klt", "repeats"
  std::string_view type_name() const;
};

/// Tables by name and hash.
class Tables {
 public:
  /// fail(invalid_argument) for a bad name and one that is there already, fail(limit) beyond 64 MiB a table, 2^16
  /// tables and 1 GiB in all.
  void add(std::string name, TableType type, Bytes bytes);
  /// By name or hash text; null when there is none.
  std::shared_ptr<const Table> find(std::string_view reference) const;
  std::span<const std::shared_ptr<const Table>> all() const { return tables_; }
  bool empty() const { return tables_.empty(); }
  std::uint64_t bytes() const { return bytes_; }

 private:
  std::vector<std::shared_ptr<const Table>> tables_;
  std::map<std::string, std::shared_ptr<const Table>, std::less<>> by_reference_;
  std::uint64_t bytes_ = 0;
};

/// A file of tables, and back. Reading fails with corrupt, truncated or unsupported on any damage.
Tables read_tables(const std::string& path);
void write_tables(const std::string& path, const Tables& tables, bool overwrite);

}  // namespace kvzip
