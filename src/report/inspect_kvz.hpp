// SPDX-License-Identifier: Apache-2.0
// What `inspect` says of a container.
#pragma once

#include <string>

#include "kvzip/container.hpp"
#include "src/report/report.hpp"

namespace kvzip::tool {

/// Tables with more rows than this show the layers that look alike as one row.
inline constexpr std::size_t kManyRows = 40;

/// Attributes of the whole file as texts.
Json metadata_json(const Dump& dump);
/// All others: of groups and tensors, and of the file those that are not one text.
Json attributes_json(const Dump& dump);
Json tensor_json(const TensorInfo& info, const TensorRole& role);
/// An object, and its lists; they refer to what it was made from.
struct LongJson {
  Json json;
  LongLists lists;
};
/// `tables` are those that the container stores; null = not known, as from a pipe.
LongJson container_json(const std::string& name, const Dump& dump, const Recognition& recognition,
                        const KvzSummary& summary, const Tables* tables);
std::string container_text(const std::string& name, const Dump& dump, const Recognition& recognition,
                           const KvzSummary& summary, const Tables* tables, bool all);
/// A line for each table.
std::string tables_text(const Tables& tables);
Json tables_json(const Tables& tables);

}  // namespace kvzip::tool
