// SPDX-License-Identifier: Apache-2.0
#include "formats/kvz/kvz_holes.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "formats/kvz/kvz_frames.hpp"

namespace kvzip {

void Holes::add(const BrokenFrames& broken) {
  if (!broken_.empty()) {
    BrokenFrames& before = broken_.back();
    const std::size_t group = header_.plan.group_of(broken.first);
    if (before.gone && broken.gone && before.last == broken.first && header_.plan.group_of(before.first) == group &&
        header_.plan.groups[group].tiled) {
      before.last = broken.last;
      return;
    }
  }
  broken_.push_back(broken);
}

KvzHole Holes::hole_of(const BrokenFrames& broken) const {
  const PlanGroup& group = header_.plan.groups[header_.plan.group_of(broken.first)];
  KvzHole hole{frame_name(header_, broken.first), broken.why, {}, 0, broken.offset};
  if (!group.tiled) {
    for (std::uint64_t f = broken.first; f < broken.last; ++f) {
      hole.slices.push_back(group.split->slice(f - group.first_frame));
    }
  } else {
    const std::uint64_t start = (broken.first - group.first_frame) * group.chunk;
    const std::uint64_t end = std::min((broken.last - group.first_frame) * group.chunk, group.rows);
    const std::string& name = header_.dump.tensors[group.slots[0].tensor].name;
    hole.name = fmt::format("{}, tokens {}-{}", name, start, end - 1);
    for (Slice& slice : header_.plan.part(header_.dump, group.first_part).slices) {
      const Axes& axes = group.slots[hole.slices.size()].axes;
      const std::size_t tokens = axes.find('T');
      slice.start[tokens] = start;
      slice.count[tokens] = end - start;
      hole.slices.push_back(std::move(slice));
    }
  }
  for (const Slice& slice : hole.slices) {
    const DType dtype = header_.dump.tensors[slice.tensor].dtype;
    hole.values += slice.elements() * dtype_unit(dtype) * 8 / dtype_bits(dtype);
  }
  return hole;
}

KvzDamage Holes::damage() const {
  KvzDamage damage;
  damage.tensors = header_.dump.tensors;
  for (const TensorInfo& tensor : damage.tensors) damage.values += tensor.elements();
  for (const BrokenFrames& broken : broken_) {
    damage.holes.push_back(hole_of(broken));
    damage.lost += damage.holes.back().values;
  }
  return damage;
}

}  // namespace kvzip
