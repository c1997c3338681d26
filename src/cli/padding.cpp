// SPDX-License-Identifier: Apache-2.0
#include "src/cli/padding.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "kvzip/dump.hpp"

namespace kvzip::tool {
namespace {

constexpr std::uint64_t kMostBytes = std::uint64_t{1} << 24;  // read at a time

/// True when rows [first, first + count) of a tensor are bytes of 0.
bool zero_rows(DumpReader& reader, std::size_t tensor, std::size_t axis, std::uint64_t first, std::uint64_t count) {
  const TensorInfo& info = reader.dump().tensors[tensor];
  Slice slice{tensor, std::vector<std::uint64_t>(info.shape.size(), 0), info.shape};
  slice.start[axis] = first;
  slice.count[axis] = count;
  Bytes bytes(slice.elements() * slice_unit(info));
  reader.read(slice, bytes);
  return std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; });
}

/// Rows before the zeros at the end; nothing where a row is too large to look at, and where there are only zeros.
std::optional<std::uint64_t> used_rows(DumpReader& reader, std::size_t tensor, std::size_t axis) {
  const TensorInfo& info = reader.dump().tensors[tensor];
  const std::uint64_t rows = info.shape[axis];
  if (rows == 0 || info.elements() == 0) return std::nullopt;
  const std::uint64_t row_bytes = info.bytes() / rows;
  if (row_bytes > kMostBytes) return std::nullopt;
  std::uint64_t used = rows, step = 1;
  while (used > 0) {
    step = std::min(step, used);
    if (zero_rows(reader, tensor, axis, used - step, step)) {
      used -= step;
      step = std::min(step * 2, std::max<std::uint64_t>(1, kMostBytes / row_bytes));
    } else if (step == 1) {
      return used;
    } else {
      step = (step + 1) / 2;
    }
  }
  return std::nullopt;
}

}  // namespace

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
    const auto used = used_rows(reader, i, role.axes.find('T'));
    if (used && *used < rows) ++tensors[{*used, rows}];
  }
  if (tensors.empty()) return {};
  const auto most = std::max_element(tensors.begin(), tensors.end(),
                                     [](const auto& a, const auto& b) { return a.second < b.second; });
  const auto [used, rows] = most->first;
  const std::string where = most->second == all ? "every layer" : fmt::format("{} of {} tensors", most->second, all);
  // Shorter tensors are taken for the last tokens of the padded ones: a range would not fit both.
  const std::string advice = lengths.size() > 1 ? "" : fmt::format("; --tokens 0:{} leaves it out", used);
  return fmt::format("tokens {} to {} are zero in {}: padding, which windows of recent tokens cover{}", used, rows - 1,
                     where, advice);
}

}  // namespace kvzip::tool
