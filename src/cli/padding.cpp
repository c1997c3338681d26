// SPDX-License-Identifier: Apache-2.0
#include "src/cli/padding.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "formats/used_rows.hpp"
#include "kvzip/dump.hpp"

namespace kvzip::tool {

std::string padding_text(DumpReader& reader, const Recognition& recognition) {
  if (reader.traits().container != nullptr || reader.traits().once) return {};
  std::map<std::pair<std::uint64_t, std::uint64_t>, std::size_t> tensors;  // by rows used and rows
  std::size_t all = 0;
  std::set<std::uint64_t> lengths;
  for (std::size_t i = 0; i < recognition.tensors.size(); ++i) {
    const TensorRole& role = recognition.tensors[i];
    const bool cached = role.role == Role::key || role.role == Role::value || role.role == Role::pair;
    if (!cached || !role.axes.has('T')) continue;
    ++all;
    const std::uint64_t rows = role.axes.extent('T', reader.dump().tensors[i].shape);
    lengths.insert(rows);
    const std::uint64_t used = used_rows(reader, i, role.axes.find('T'));
    if (used != 0 && used < rows) ++tensors[{used, rows}];
  }
  if (tensors.empty()) return {};
  const auto most = std::max_element(tensors.begin(), tensors.end(),
                                     [](const auto& a, const auto& b) { return a.second < b.second; });
  const auto [used, rows] = most->first;
  const std::string where = most->second == all ? "every layer" : fmt::format("{} of {} tensors", most->second, all);
  // Shorter tensors are taken for the last tokens of the padded ones: a range would not fit both.
  const std::string advice = lengths.size() > 1 ? "" : fmt::format("; --tokens 0:{} leaves it out", used);
  return fmt::format("tokens {} to {} are zero in {}: padding{}", used, rows - 1, where, advice);
}

}  // namespace kvzip::tool
