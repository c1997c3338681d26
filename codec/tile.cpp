// SPDX-License-Identifier: Apache-2.0
#include "codec/tile.hpp"

namespace kvzip {

std::vector<HeadRun> TileContext::head_runs(bool keys_only) const {
  const bool some = keys_only && role != Role::key;
  if (heads != 0 && !some) return {{0, heads, head_dim}};
  std::vector<HeadRun> runs;
  for (const TileMember& m : members) {
    if (some && m.role != Role::key) continue;
    if (!runs.empty() && runs.back().end() == m.first && runs.back().head_dim == m.head_dim) {
      runs.back().heads += m.heads;
    } else {
      runs.push_back(m);
    }
  }
  return runs;
}

std::vector<std::uint32_t> TileContext::head_edges() const {
  std::vector<std::uint32_t> edges{0};
  for (const HeadRun& run : head_runs()) {
    for (std::uint32_t h = 0; h < run.heads; ++h) edges.push_back(edges.back() + run.head_dim);
  }
  return edges;
}

}  // namespace kvzip
