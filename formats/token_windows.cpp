// SPDX-License-Identifier: Apache-2.0
#include "formats/token_windows.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "formats/mlx_cache.hpp"

namespace kvzip {
namespace {

/// Rows of keys or values; 0 for everything else.
std::uint64_t rows_of(const TensorInfo& tensor, const TensorRole& role) {
  const bool cached = role.role == Role::key || role.role == Role::value || role.role == Role::pair;
  if (!cached || !role.axes.has('T') || role.axes.size() != tensor.shape.size()) return 0;
  return role.axes.extent('T', tensor.shape);
}

/// Of caches whose rows need not be in the order of time, which is what a range of tokens cuts by, and that do not say.
std::string rings_text(const RowPlaces& places) {
  std::vector<std::string_view> layers;
  for (const MlxRows& cache : places.mlx) {
    if (!cache.first && cache.whole.empty() && cache.type == "RotatingKVCache") layers.push_back(cache.prefix);
  }
  if (layers.empty()) return {};
  return fmt::format("layers {} are cut by rows, each {}", fmt::join(layers, ","), kRingRemark);
}

}  // namespace

std::vector<std::uint64_t> first_positions(const Dump& dump, const Recognition& recognition) {
  std::vector<std::uint64_t> first(dump.tensors.size(), 0);
  std::set<std::pair<Role, std::uint32_t>> seen;
  std::uint64_t longest = 0;
  for (std::size_t i = 0; i < first.size(); ++i) {
    const TensorRole& role = recognition.tensors[i];
    const std::uint64_t rows = rows_of(dump.tensors[i], role);
    longest = std::max(longest, rows);
    if (rows != 0 && role.layer && !seen.emplace(role.role, *role.layer).second) return first;
  }
  for (std::size_t i = 0; i < first.size(); ++i) {
    const std::uint64_t rows = rows_of(dump.tensors[i], recognition.tensors[i]);
    if (rows != 0 && recognition.tensors[i].layer) first[i] = longest - rows;
  }
  return first;
}

std::string windows_text(const RowPlaces& places, const Recognition& recognition,
                         const std::pair<std::uint64_t, std::uint64_t>& tokens) {
  std::map<std::pair<std::uint64_t, std::uint64_t>, std::set<std::uint32_t>> windows;  // layers by positions
  for (std::size_t t = 0; t < places.first.size(); ++t) {
    if (places.first[t] == 0 || places.rows[t] == 0 || !recognition.tensors[t].layer) continue;
    windows[{places.first[t], places.first[t] + places.rows[t]}].insert(*recognition.tensors[t].layer);
  }
  std::string out;
  for (const auto& [positions, layers] : windows) {
    const auto [start, end] = positions;
    const bool lacking = tokens.second <= start || tokens.first >= end;
    out += fmt::format("{}layers {} hold {} tokens, {}{} to {}{}", out.empty() ? "" : "; ", fmt::join(layers, ","),
                       end - start, places.stated ? "" : fmt::format("taken for the last of {}, ", places.end), start,
                       end - 1, lacking ? ", and have none of those asked for" : "");
  }
  const std::string rings = rings_text(places);
  return out.empty() || rings.empty() ? out + rings : out + "; " + rings;
}

}  // namespace kvzip
