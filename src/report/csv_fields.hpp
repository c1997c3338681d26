// SPDX-License-Identifier: Apache-2.0
// Structures as columns of CSV, from the members that they declare (formats/json_fields.hpp).
#pragma once

#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "formats/json_fields.hpp"
#include "src/report/report.hpp"

namespace kvzip::tool {

struct CsvColumn {
  std::string name, cell;
};
using CsvColumns = std::vector<CsvColumn>;

/// A visitor that lists numbers as columns; those of an inner structure have its name and '_' in front. Where there is
/// no number, or no inner structure, cells are empty.
class CsvFields {
 public:
  explicit CsvFields(std::string prefix = {}, bool blank = false) : prefix_(std::move(prefix)), blank_(blank) {}

  void operator()(std::string_view name, const auto& value) {
    using T = std::remove_cvref_t<decltype(value)>;
    const std::string column = prefix_ + std::string(name);
    if constexpr (std::integral<T>) {
      columns_.push_back({column, blank_ ? std::string() : std::to_string(value)});
    } else if constexpr (std::floating_point<T>) {
      columns_.push_back({column, blank_ ? std::string() : csv_number(value)});
    } else {
      CsvFields inner(column + "_", blank_);
      fields(inner, value);
      for (CsvColumn& one : inner.columns_) columns_.push_back(std::move(one));
    }
  }
  template <typename T>
  void operator()(std::string_view name, const std::optional<T>& value) {
    const bool blank = std::exchange(blank_, blank_ || !value);
    (*this)(name, value.value_or(T()));
    blank_ = blank;
  }
  CsvColumns& columns() { return columns_; }

 private:
  std::string prefix_;
  bool blank_;
  CsvColumns columns_;
};

CsvColumns csv_columns(const auto& value, std::string prefix = {}) {
  CsvFields visitor(std::move(prefix));
  fields(visitor, value);
  return std::move(visitor.columns());
}
/// ",NAME,NAME" and ",CELL,CELL".
std::string csv_names(const CsvColumns& columns);
std::string csv_cells(const CsvColumns& columns);

}  // namespace kvzip::tool
