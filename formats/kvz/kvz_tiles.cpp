// SPDX-License-Identifier: Apache-2.0
// Element order: slices as tensors lie in files, tiles as tokens x channels. Which frames hold which elements.
#include <algorithm>
#include <cstring>
#include <utility>

#include "formats/kvz/kvz_plan.hpp"

namespace kvzip {
namespace {

/// Strides, in elements, of tokens, heads and dimensions inside a row-major slice.
struct SliceStrides {
  std::size_t tokens = 1, heads = 1, dims = 1;  // extents
  std::size_t token_step = 0, head_step = 0, dim_step = 1;
};

SliceStrides strides_of(const PlanSlot& slot, const Slice& slice) {
  SliceStrides s;
  std::size_t step = 1;
  for (std::size_t a = slot.axes.size(); a-- > 0;) {
    const std::size_t n = slice.count[a];
    switch (slot.axes[a]) {
      case 'T':
        s.tokens = n, s.token_step = step;
        break;
      case 'H':
        s.heads = n, s.head_step = step;
        break;
      case 'D':
      case 'C':
        s.dims = n, s.dim_step = step;
        break;
      default:
        break;
    }
    step *= n;
  }
  return s;
}

/// Calls copy(byte offset in the slice, byte offset in the tile, bytes) for every contiguous piece.
template <typename F>
void for_each_piece(const SliceStrides& s, std::size_t unit, std::size_t row_bytes, std::size_t column, F&& copy) {
  for (std::size_t t = 0; t < s.tokens; ++t) {
    for (std::size_t h = 0; h < s.heads; ++h) {
      const std::size_t from = t * s.token_step + h * s.head_step, to = t * row_bytes + column + h * s.dims * unit;
      if (s.dim_step == 1) {
        copy(from * unit, to, s.dims * unit);
      } else {
        for (std::size_t d = 0; d < s.dims; ++d) copy((from + d * s.dim_step) * unit, to + d * unit, unit);
      }
    }
  }
}

using Range = std::pair<std::uint64_t, std::uint64_t>;

/// Pass-through frames are consecutive runs of elements, in order.
Range pass_parts_touching(const PlanGroup& group, const Dump& dump, const Slice& slice) {
  const auto shape = slice_shape(dump.tensors[slice.tensor]);
  const auto linear = [&](const Slice& s, bool last) {
    std::uint64_t at = 0;
    for (std::size_t a = 0; a < shape.size(); ++a) at = at * shape[a] + s.start[a] + (last ? s.count[a] - 1 : 0);
    return at;
  };
  const auto count_until = [&](std::uint64_t element) {  // frames that start at or before the element
    std::uint64_t low = 0, high = group.frames;
    while (low < high) {
      const std::uint64_t middle = low + (high - low) / 2;
      if (linear(group.split->slice(middle), false) <= element) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return low;
  };
  return {group.first_part + count_until(linear(slice, false)) - 1,
          group.first_part + count_until(linear(slice, true))};
}

}  // namespace

std::pair<std::uint64_t, std::uint64_t> parts_touching(const PlanGroup& group, const Dump& dump, const Slice& slice) {
  if (!group.tiled) return pass_parts_touching(group, dump, slice);
  std::uint64_t first = 0, last = group.parts;
  for (const PlanSlot& slot : group.slots) {
    const auto t = slot.axes.find('T');
    if (slot.tensor != slice.tensor) continue;
    first = slice.start[t] / group.chunk / group.frames_of_part();
    last = std::min(group.parts, (slice.start[t] + slice.count[t] - 1) / group.chunk / group.frames_of_part() + 1);
  }
  return {group.first_part + first, group.first_part + last};
}

Buffer<std::byte> gather_tile(const Plan& plan, const Dump& dump, const Part& part) {
  const PlanGroup& group = plan.group(part);
  if (!group.tiled) return {part.data[0].begin(), part.data[0].end()};
  const TileShape shape = plan.shape(dump, part);
  const std::size_t unit = dtype_unit(group.context.source), row_bytes = std::size_t{shape.cols} * unit;
  Buffer<std::byte> tile(row_bytes * shape.rows);
  std::size_t column = 0;
  for (std::size_t i = 0; i < part.slices.size(); ++i) {
    const SliceStrides s = strides_of(group.slots[i], part.slices[i]);
    for_each_piece(s, unit, row_bytes, column, [&](std::size_t from, std::size_t to, std::size_t n) {
      std::memcpy(tile.data() + to, part.data[i].data() + from, n);
    });
    column += s.heads * s.dims * unit;
  }
  return tile;
}

void scatter_tile(const Plan& plan, const Dump& dump, ByteView tile, Part& part) {
  const PlanGroup& group = plan.group(part);
  part.data.resize(part.slices.size());
  if (!group.tiled) {
    part.data[0].assign(tile.begin(), tile.end());
    return;
  }
  const TileShape shape = plan.shape(dump, part);
  const std::size_t unit = dtype_unit(group.context.source), row_bytes = std::size_t{shape.cols} * unit;
  std::size_t column = 0;
  for (std::size_t i = 0; i < part.slices.size(); ++i) {
    const SliceStrides s = strides_of(group.slots[i], part.slices[i]);
    part.data[i].resize(s.tokens * s.heads * s.dims * unit);
    for_each_piece(s, unit, row_bytes, column, [&](std::size_t from, std::size_t to, std::size_t n) {
      std::memcpy(part.data[i].data() + from, tile.data() + to, n);
    });
    column += s.heads * s.dims * unit;
  }
}

KeyValueErrors tile_errors(const TileContext& context, TileShape shape, ByteView original, ByteView decoded) {
  KeyValueErrors errors;
  std::vector<float> a(std::size_t{shape.rows} * shape.cols), b(a.size());
  to_float(context.source, original, a);
  to_float(context.source, decoded, b);
  for (std::size_t r = 0; r < shape.rows; ++r) {
    for (const TileMember& m : context.members) {
      const std::size_t at = r * shape.cols + m.first, width = m.end() - m.first;
      errors.at(m.role == Role::value)
          .add(std::span(a).subspan(at, width), std::span(b).subspan(at, width), m.head_dim);
    }
  }
  return errors;
}

}  // namespace kvzip
