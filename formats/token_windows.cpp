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

/// Of caches whose rows need not be in the order of time, which is what a range of tokens cuts by.
std::string rings_text(const Recognition& recognition) {
  std::set<std::uint32_t> layers;
  for (const TensorRole& role : recognition.tensors) {
    if (role.layer && role.why.find(kRingRemark) != role.why.npos) layers.insert(*role.layer);
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

std::string windows_text(const Dump& dump, const Recognition& recognition,
                         const std::pair<std::uint64_t, std::uint64_t>& tokens) {
  const std::vector<std::uint64_t> first = first_positions(dump, recognition);
  std::map<std::uint64_t, std::set<std::uint32_t>> windows;  // layers by first position
  std::uint64_t longest = 0;
  for (std::size_t i = 0; i < first.size(); ++i) {
    const std::uint64_t rows = rows_of(dump.tensors[i], recognition.tensors[i]);
    longest = std::max(longest, first[i] + rows);
    if (first[i] != 0) windows[first[i]].insert(*recognition.tensors[i].layer);
  }
  std::string out;
  for (const auto& [start, layers] : windows) {
    const bool lacking = tokens.second <= start || tokens.first >= longest;
    out += fmt::format("{}layers {} hold {} tokens, taken for the last of {}, {} to {}{}", out.empty() ? "" : "; ",
                       fmt::join(layers, ","), longest - start, longest, start, longest - 1,
                       lacking ? ", and have none of those asked for" : "");
  }
  const std::string rings = rings_text(recognition);
  return out.empty() || rings.empty() ? out + rings : out + "; " + rings;
}

}  // namespace kvzip
