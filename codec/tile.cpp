// SPDX-License-Identifier: Apache-2.0
#include "codec/tile.hpp"

#include "codec/portable_math.hpp"

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

float mean_saliency(std::span<const float> heads) {
  if (heads.size() == 1) return heads[0];
  const double ln2 = portable::log(2);
  double sum = 0;
  for (const float s : heads) sum += portable::exp(s * ln2);
  return static_cast<float>(portable::log(sum / static_cast<double>(heads.size())) / ln2);
}

std::vector<float> Tile::row_saliency() const {
  const std::size_t cols = saliency_cols();
  if (cols == 0) return {};
  if (cols == 1) return saliency;
  std::vector<float> out;
  for (std::size_t r = 0; r < shape.rows; ++r) out.push_back(mean_saliency({saliency.data() + r * cols, cols}));
  return out;
}

}  // namespace kvzip
