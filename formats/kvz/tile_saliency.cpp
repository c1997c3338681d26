// SPDX-License-Identifier: Apache-2.0
#include "formats/kvz/tile_saliency.hpp"

namespace kvzip {
namespace {

/// Rows of the tile, in each head that a slot holds channels of.
/// `all_asked`: none of them has the proxy, whose word on single heads is not worth steps of their own.
std::vector<const float*> rows_of(const Saliency& saliency, const PlanGroup& group, TileShape shape, bool& all_asked) {
  std::vector<const float*> out;
  for (std::size_t i = 0; i < group.slots.size() && i < group.context.members.size(); ++i) {
    const PlanSlot& slot = group.slots[i];
    const TileMember& member = group.context.members[i];
    const auto index_of = [&](char axis) {
      const std::size_t at = slot.axes.find(axis);
      return at == Axes::npos ? PlanSlot::kFree : slot.fixed[at];
    };
    const std::uint64_t batch = index_of('B') == PlanSlot::kFree ? 0 : index_of('B'), head = index_of('H');
    const bool one = head != PlanSlot::kFree;
    for (auto at = saliency.heads.lower_bound({member.role, member.layer, batch, one ? head : 0});
         at != saliency.heads.end(); ++at) {
      const Saliency::Head& found = at->first;
      if (found.role != member.role || found.layer != member.layer || found.batch != batch) break;
      if (one && found.head != head) break;
      if (at->second.size() == group.rows) out.push_back(at->second.data() + shape.first_token);
      all_asked = all_asked && !saliency.by_proxy.contains({found.layer, found.batch});
    }
  }
  return out;
}

}  // namespace

std::vector<float> tile_saliency(const Saliency& saliency, const PlanGroup& group, TileShape shape) {
  if (!group.tiled) return {};
  bool all_asked = true;
  const std::vector<const float*> heads = rows_of(saliency, group, shape, all_asked);
  if (heads.empty()) return {};
  const bool each = all_asked && heads.size() + 1 == group.context.head_edges().size();
  std::vector<float> out, row(heads.size());
  for (std::size_t r = 0; r < shape.rows; ++r) {
    for (std::size_t h = 0; h < heads.size(); ++h) row[h] = heads[h][r];
    if (!each) row.assign(1, mean_saliency(row));
    out.insert(out.end(), row.begin(), row.end());
    row.resize(heads.size());
  }
  return out;
}

}  // namespace kvzip
