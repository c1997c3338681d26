// SPDX-License-Identifier: Apache-2.0
#include "formats/kvz/kvz_plan.hpp"

#include <algorithm>
#include <limits>
#include <map>
#include <set>

#include "codec/fail.hpp"
#include "codec/limits.hpp"

namespace kvzip {
namespace {

/// Channels a slot contributes: the free ones of H, D and C.
std::uint64_t slot_channels(const TensorInfo& info, const PlanSlot& slot) {
  std::uint64_t channels = 1;
  for (std::size_t a = 0; a < slot.axes.size(); ++a) {
    if (slot.axes[a] == 'T' || slot.fixed[a] != PlanSlot::kFree) continue;
    if (__builtin_mul_overflow(channels, info.shape[a], &channels)) fail(ErrorCode::limit, "too many channels");
  }
  return channels;
}

void check_slot(const PlanGroup& group, PlanSlot& slot, const Dump& dump, const Recognition& recognition) {
  if (slot.tensor >= dump.tensors.size()) fail(ErrorCode::corrupt, "a group names tensor {}", slot.tensor);
  const TensorInfo& info = dump.tensors[slot.tensor];
  if (!group.tiled) return;
  const Axes& axes = recognition.tensors[slot.tensor].axes;
  if (axes.size() != info.shape.size() || slot.fixed.size() != axes.size() || !axes.has_matrix() ||
      dtype_bits(info.dtype) < 8) {
    fail(ErrorCode::corrupt, "{}: its axes '{}' do not fit its shape", info.name, axes.text());
  }
  for (std::size_t a = 0; a < axes.size(); ++a) {
    const bool free = slot.fixed[a] == PlanSlot::kFree;
    const bool inside = axes[a] != 'H' && Axes::is_inside(axes[a]);
    if (free ? !inside && axes[a] != 'H' : inside || slot.fixed[a] >= info.shape[a]) {
      fail(ErrorCode::corrupt, "{}: a group's index along axis {} is impossible", info.name, axes[a]);
    }
  }
  slot.axes = axes;
  if (info.dtype != dump.tensors[group.slots[0].tensor].dtype) {
    fail(ErrorCode::invalid_argument, "{}: tensors of one tile have different dtypes", info.name);
  }
}

/// A tensor that holds keys and values along an axis has them at index 0 and 1.
Role slot_role(const PlanSlot& slot, const TensorRole& tensor) {
  const auto both = slot.axes.find('2');
  if (both == Axes::npos) return tensor.role;
  return slot.fixed[both] == 0 ? Role::key : Role::value;
}

std::uint32_t slot_layer(const PlanSlot& slot, const TensorRole& tensor) {
  const auto axis = slot.axes.find('L');
  return axis == Axes::npos ? tensor.layer.value_or(0) : static_cast<std::uint32_t>(slot.fixed[axis]);
}

/// What each slot is. Where a group has one width of heads, a slot of another width is one head.
void derive_members(PlanGroup& group, const Dump& dump, const Recognition& recognition) {
  TileContext& context = group.context;
  context.members.clear();
  for (const PlanSlot& slot : group.slots) {
    TileMember member;
    member.first = context.members.empty() ? 0 : context.members.back().end();
    member.role = slot_role(slot, recognition.tensors[slot.tensor]);
    member.layer = slot_layer(slot, recognition.tensors[slot.tensor]);
    const auto channels = static_cast<std::uint32_t>(slot_channels(dump.tensors[slot.tensor], slot));
    if (context.heads == 0) {
      member.heads = slot.heads, member.head_dim = slot.head_dim;
    } else {
      const bool whole = context.head_dim != 0 && channels % context.head_dim == 0;
      member.heads = whole ? channels / context.head_dim : 1;
      member.head_dim = whole ? context.head_dim : channels;
    }
    context.members.push_back(member);
  }
}

/// Heads fill the channels of the tile, or, where they differ in width, those of each slot.
void check_heads(const PlanGroup& group, const Dump& dump, std::uint64_t channels) {
  const auto check = [](std::uint64_t heads, std::uint64_t dim, std::uint64_t of) {
    if (heads == 0 || heads * dim != of) fail(ErrorCode::corrupt, "{} heads of {} are not {} channels", heads, dim, of);
  };
  if (group.context.heads != 0) return check(group.context.heads, group.context.head_dim, channels);
  if (group.slots.size() > limits::kMembers) fail(ErrorCode::limit, "{} tensors in one tile", group.slots.size());
  for (const PlanSlot& slot : group.slots) {
    check(slot.heads, slot.head_dim, slot_channels(dump.tensors[slot.tensor], slot));
  }
}

void derive_tiled(PlanGroup& group, const Plan& plan, const Dump& dump, const Recognition& recognition) {
  const PlanSlot& first = group.slots.at(0);
  group.rows = first.axes.extent('T', dump.tensors[first.tensor].shape);
  std::uint64_t channels = 0;
  for (const PlanSlot& slot : group.slots) {
    if (slot.axes.extent('T', dump.tensors[slot.tensor].shape) != group.rows) {
      fail(ErrorCode::invalid_argument, "{}: tensors of one tile differ in tokens", dump.tensors[slot.tensor].name);
    }
    if (__builtin_add_overflow(channels, slot_channels(dump.tensors[slot.tensor], slot), &channels)) {
      fail(ErrorCode::limit, "too many channels");
    }
  }
  check_heads(group, dump, channels);
  const std::uint64_t most = std::min(group.rows, group.chunk);
  if (group.chunk == 0) fail(ErrorCode::corrupt, "a chunk of 0 tokens");
  const bool chained = plan.pipelines[group.pipeline].chained();
  if (chained != (group.restart != 0)) {
    fail(ErrorCode::corrupt, "its pipeline {}", chained ? "is chained and states no restart points" : "is not chained");
  }
  if (channels != 0 && most > limits::kFrameValues / channels) {
    throw Error(ErrorCode::limit,
                fmt::format("a chunk of {} tokens x {} channels is larger than 2^30 values", most, channels),
                Hint::chunk_tokens);
  }
  if (channels == 0 || group.rows == 0) return;
  group.frames = (group.rows - 1) / group.chunk + 1;
  const std::uint64_t together = group.frames_of_part();
  const std::uint64_t stretch = together == group.frames ? group.rows : most * together;
  if (stretch > limits::kFrameValues / channels) {
    fail(ErrorCode::limit,
         "{} tokens x {} channels from one restart point to the next are more than 2^30 values; 'restart = N' in the "
         "preset with a smaller N makes them fewer",
         stretch, channels);
  }
  group.context.total_tokens = group.rows;
  group.context.source = dump.tensors[first.tensor].dtype;
  derive_members(group, dump, recognition);
  // A trial run over the largest tile's shape: whatever a stage refuses, it refuses before any data is read.
  Pipeline trial = plan.pipelines[group.pipeline];
  trial.resolve(group.context, {static_cast<std::uint32_t>(most), static_cast<std::uint32_t>(channels), 0, true, true});
}

void derive_pass(PlanGroup& group, const Plan& plan, const Dump& dump) {
  const TensorInfo& info = dump.tensors[group.slots.at(0).tensor];
  if (group.slots.size() != 1 || !plan.pipelines[group.pipeline].exact()) {
    fail(ErrorCode::corrupt, "{}: a tensor that passes through needs an exact pipeline", info.name);
  }
  if (group.chunk == 0 || group.chunk > limits::kFrameValues)
    fail(ErrorCode::corrupt, "a frame of {} bytes", group.chunk);
  const Role role = group.context.role;
  group.context = {};
  group.context.role = role;
  group.context.source = dtype_bits(info.dtype) < 8 ? DType::u8 : info.dtype;
  group.split.emplace(info, group.slots[0].tensor, group.chunk);
  group.frames = group.split->count();
}

/// True when two slots leave the same axes free.
bool same_form(const std::vector<std::uint64_t>& a, const std::vector<std::uint64_t>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](std::uint64_t x, std::uint64_t y) { return (x == PlanSlot::kFree) == (y == PlanSlot::kFree); });
}

/// Every element of every tensor belongs to exactly one group.
void check_coverage(const Plan& plan, const Dump& dump) {
  std::vector<std::set<std::vector<std::uint64_t>>> seen(dump.tensors.size());
  std::vector<std::uint64_t> covered(dump.tensors.size());
  for (const PlanGroup& group : plan.groups) {
    for (const PlanSlot& slot : group.slots) {
      const TensorInfo& info = dump.tensors[slot.tensor];
      // Boxes of one form that differ in an index share nothing; boxes of different forms could overlap.
      auto& others = seen[slot.tensor];
      const std::vector<std::uint64_t> fixed = group.tiled ? slot.fixed : std::vector<std::uint64_t>{};
      if (!others.empty() && !same_form(*others.begin(), fixed)) {
        fail(ErrorCode::corrupt, "{}: its groups cut it in different ways", info.name);
      }
      if (!others.insert(fixed).second) {
        fail(ErrorCode::corrupt, "{}: some of its elements are stored twice", info.name);
      }
      covered[slot.tensor] += group.tiled ? slot_channels(info, slot) * group.rows : info.elements();
    }
  }
  for (std::size_t i = 0; i < covered.size(); ++i) {
    if (covered[i] != dump.tensors[i].elements()) {
      fail(ErrorCode::corrupt, "{}: {} of {} elements are stored", dump.tensors[i].name, covered[i],
           dump.tensors[i].elements());
    }
  }
}

}  // namespace

void finish_plan(Plan& plan, const Dump& dump, const Recognition& recognition) {
  plan.frames = plan.parts = 0;
  for (PlanGroup& group : plan.groups) {
    if (group.slots.empty() || group.pipeline >= plan.pipelines.size())
      fail(ErrorCode::corrupt, "a group without slots or pipeline");
    for (PlanSlot& slot : group.slots) check_slot(group, slot, dump, recognition);
    group.first_frame = plan.frames;
    group.frames = 0;
    try {
      if (group.tiled) {
        derive_tiled(group, plan, dump, recognition);
      } else {
        derive_pass(group, plan, dump);
      }
    } catch (Error& e) {
      e.add_where(dump.tensors[group.slots[0].tensor].name);
      throw;
    }
    if (group.frames > limits::kFrames - plan.frames)
      fail(ErrorCode::limit, "more than 2^28 frames; use larger chunks");
    plan.frames += group.frames;
    group.first_part = plan.parts;
    group.parts = group.frames == 0 ? 0 : (group.frames - 1) / group.frames_of_part() + 1;
    plan.parts += group.parts;
  }
  check_coverage(plan, dump);
}

PreludeInfo Plan::needs() const {
  PreludeInfo needs;
  for (const PlanGroup& group : groups) {
    if (!group.tiled) continue;
    const bool asks = group.context.role == Role::pair && pipelines[group.pipeline].by_role();
    if (group.context.heads == 0 || asks) needs.features |= kMembersFeature;
    if (group.restart != 0) needs.features |= kChainedFeature;
  }
  if (needs.features != 0) needs.minor = 1;
  for (const Pipeline& pipeline : pipelines) needs.minor = std::max(needs.minor, pipeline.since_minor());
  return needs;
}

std::size_t Plan::group_of(std::uint64_t frame) const {
  const auto after = std::partition_point(groups.begin(), groups.end(),
                                          [&](const PlanGroup& g) { return g.first_frame + g.frames <= frame; });
  return static_cast<std::size_t>(after - groups.begin());
}

const PlanGroup& Plan::group(const Part& part) const {
  if (part.group < groups.size()) {
    const PlanGroup& found = groups[part.group];
    if (part.index >= found.first_part && part.index - found.first_part < found.parts) return found;
  }
  fail(ErrorCode::invalid_argument, "part {} is not of group {}", part.index, part.group);
}

std::pair<std::uint64_t, std::uint64_t> Plan::frames_of(const Part& part) const {
  const PlanGroup& g = group(part);
  const std::uint64_t first = (part.index - g.first_part) * g.frames_of_part();
  return {g.first_frame + first, g.first_frame + std::min(g.frames, first + g.frames_of_part())};
}

Part Plan::part(const Dump& dump, std::uint64_t index) const {
  Part part;
  part.index = index;
  const auto after = std::partition_point(groups.begin(), groups.end(),
                                          [&](const PlanGroup& g) { return g.first_part + g.parts <= index; });
  part.group = static_cast<std::size_t>(after - groups.begin());
  const PlanGroup& group = groups.at(part.group);
  const std::uint64_t at = index - group.first_part;
  if (!group.tiled) {
    part.slices.push_back(group.split->slice(at));
    return part;
  }
  for (const PlanSlot& slot : group.slots) {
    Slice slice{slot.tensor, std::vector<std::uint64_t>(slot.axes.size(), 0), dump.tensors[slot.tensor].shape};
    for (std::size_t a = 0; a < slot.axes.size(); ++a) {
      if (slot.axes[a] == 'T') {
        slice.start[a] = at * group.frames_of_part() * group.chunk;
        slice.count[a] = shape(dump, part).rows;
      } else if (slot.fixed[a] != PlanSlot::kFree) {
        slice.start[a] = slot.fixed[a];
        slice.count[a] = 1;
      }
    }
    part.slices.push_back(std::move(slice));
  }
  return part;
}

TileShape Plan::shape(const Dump& dump, const PlanGroup& group, std::uint64_t frame) const {
  const std::uint64_t at = frame - group.first_frame;
  if (group.tiled) {
    const std::uint64_t first = at * group.chunk;
    return {static_cast<std::uint32_t>(std::min(group.chunk, group.rows - first)), group.context.channels(), first,
            true, true};
  }
  const std::uint64_t bytes = group.split->slice(at).elements() * slice_unit(dump.tensors[group.slots[0].tensor]);
  return {static_cast<std::uint32_t>(bytes / dtype_unit(group.context.source)), 1, 0, true, true};
}

Plan::Cost Plan::cost(const Dump& dump, const PlanGroup& group, std::uint64_t first, std::uint64_t last) const {
  Cost sum;
  if (first == last) return sum;
  if (!group.tiled && last - first == group.frames) {
    sum.decoded = static_cast<double>(dump.tensors[group.slots[0].tensor].bytes());
    return sum;
  }
  const auto add = [&](std::uint64_t frame, double times) {
    const TileShape one = shape(dump, group, frame);
    sum.work += times * pipelines[group.pipeline].work(group.context, one);
    sum.decoded += times * one.rows * one.cols * static_cast<double>(dtype_unit(group.context.source));
  };
  // All frames of a tiled group but its last have one shape.
  add(first, static_cast<double>(last - first - 1));
  add(last - 1, 1);
  return sum;
}

TileShape Plan::shape(const Dump& dump, const Part& part) const {
  const PlanGroup& g = group(part);
  const auto [first, last] = frames_of(part);
  TileShape all = shape(dump, g, first);
  if (last - first > 1) {  // all but the last frame have the rows of the first
    all.rows = static_cast<std::uint32_t>((last - first - 1) * all.rows) + shape(dump, g, last - 1).rows;
  }
  return all;
}

}  // namespace kvzip
