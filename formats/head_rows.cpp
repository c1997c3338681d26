// SPDX-License-Identifier: Apache-2.0
#include "formats/head_rows.hpp"

#include <algorithm>
#include <array>

#include "codec/buffer.hpp"
#include "codec/fail.hpp"
#include "codec/limits.hpp"

namespace kvzip {
namespace {

constexpr std::uint64_t kPickTokens = 1024;  // read together

std::uint64_t merged_dims(std::uint64_t channels, Role role, const ModelInfo& model, std::uint64_t head_dim) {
  if (model.head_dim != 0) head_dim = model.head_dim;
  if (head_dim != 0 && channels % head_dim == 0) return head_dim;
  if (role != Role::query && model.kv_heads != 0 && channels % model.kv_heads == 0) return channels / model.kv_heads;
  return channels;
}

}  // namespace

void HeadRows::read(DumpReader& reader, std::size_t in, std::uint64_t first, std::uint64_t count,
                    std::vector<float>& out) const {
  const TensorInfo& info = reader.dump().tensors[in];
  Slice slice{in, fixed, std::vector<std::uint64_t>(axes.size(), 1)};
  std::uint64_t head_step = 0, token_step = 0, dim_step = 0, step = 1;
  for (std::size_t a = axes.size(); a-- > 0;) {
    if (!Axes::is_inside(axes[a])) continue;
    slice.start[a] = axes[a] == 'T' ? first : 0;
    slice.count[a] = axes[a] == 'T' ? count : info.shape[a];
    if (axes[a] == 'T') token_step = step;
    if (axes[a] == 'H') head_step = step;
    if (Axes::is_channel(axes[a])) dim_step = step;
    if (axes[a] == 'C') head_step = step * dims;
    step *= slice.count[a];
  }
  Buffer<std::byte> bytes(step * slice_unit(info));
  out.resize(step);
  reader.read(slice, bytes);
  const bool in_order = dim_step == 1 && token_step == dims && (heads == 1 || head_step == count * dims);
  if (in_order) {
    to_float(info.dtype, bytes, out);
    return;
  }
  Buffer<float> floats(step);
  to_float(info.dtype, bytes, floats);
  float* to = out.data();
  for (std::uint64_t h = 0; h < heads; ++h) {
    for (std::uint64_t t = 0; t < count; ++t) {
      const float* from = floats.data() + h * head_step + t * token_step;
      for (std::uint64_t d = 0; d < dims; ++d) *to++ = from[d * dim_step];
    }
  }
}

std::vector<float> HeadRows::pick(DumpReader& reader, std::size_t in, const std::vector<std::uint64_t>& wanted) const {
  std::vector<float> out(heads * wanted.size() * dims), some;
  for (std::size_t i = 0; i < wanted.size();) {
    std::size_t end = i + 1;
    while (end < wanted.size() && wanted[end] - wanted[i] < kPickTokens) ++end;
    const std::uint64_t first = wanted[i], count = wanted[end - 1] - first + 1;
    read(reader, in, first, count, some);
    for (std::uint64_t h = 0; h < heads; ++h) {
      for (std::size_t j = i; j < end; ++j) {
        std::copy_n(some.data() + (h * count + wanted[j] - first) * dims, dims,
                    out.data() + (h * wanted.size() + j) * dims);
      }
    }
    i = end;
  }
  return out;
}

HeadMap find_heads(const Dump& dump, const Recognition& recognition, std::uint64_t head_dim) {
  HeadMap out;
  std::uint64_t boxes = 0;
  for (std::size_t i = 0; i < dump.tensors.size() && i < recognition.tensors.size(); ++i) {
    const TensorRole& role = recognition.tensors[i];
    const std::vector<std::uint64_t>& shape = dump.tensors[i].shape;
    if (role.role == Role::other || role.axes.size() != shape.size() || dump.tensors[i].elements() == 0) continue;
    HeadRows rows{i, role.axes, std::vector<std::uint64_t>(shape.size(), 0), 1, 1, 1};
    rows.heads = role.axes.extent('H', shape);
    rows.tokens = role.axes.extent('T', shape);
    rows.dims = role.axes.extent('D', shape);
    if (role.axes.has('C')) {
      const std::uint64_t channels = role.axes.extent('C', shape);
      rows.dims = merged_dims(channels, role.role, recognition.model, head_dim);
      rows.heads = channels / rows.dims;
    }
    constexpr std::array<char, 3> kHeld{'B', 'L', '2'};
    std::array<std::uint64_t, 3> extent{};
    for (std::size_t a = 0; a < 3; ++a) extent[a] = role.axes.extent(kHeld[a], shape);
    const std::uint64_t count = extent[0] * extent[1] * extent[2];  // at most the elements, which are counted
    if (count > limits::kHeadBoxes - boxes) {
      fail(ErrorCode::limit, "{}: more than {} layers and sequences to measure", dump.tensors[i].name,
           limits::kHeadBoxes);
    }
    boxes += count;
    for (std::uint64_t box = 0; box < count; ++box) {
      const std::array<std::uint64_t, 3> index{box / extent[2] / extent[1], box / extent[2] % extent[1],
                                               box % extent[2]};
      for (std::size_t a = 0; a < 3; ++a) {
        if (role.axes.has(kHeld[a])) rows.fixed[role.axes.find(kHeld[a])] = index[a];
      }
      const auto layer = static_cast<std::uint32_t>(role.axes.has('L') ? index[1] : role.layer.value_or(0));
      LayerHeads& place = out[{layer, index[0]}];
      const bool key = role.role == Role::key || (role.role == Role::pair && index[2] == 0);
      (role.role == Role::query ? place.queries : key ? place.keys : place.values).push_back(rows);
    }
  }
  return out;
}

bool pairs_up(const LayerHeads& layer) {
  return layer.keys.size() == 1 && layer.values.size() == 1 && layer.keys[0].heads == layer.values[0].heads &&
         layer.keys[0].tokens == layer.values[0].tokens;
}

std::uint64_t tokens_at_a_time(std::uint64_t chunk, std::uint64_t channels, std::uint64_t tokens) {
  constexpr std::uint64_t kMostTokens = 8192, kMostValues = std::uint64_t{1} << 22, kStep = 128;
  const std::uint64_t most = std::clamp(kMostValues / channels, kStep, kMostTokens);
  std::uint64_t step = std::min(std::max(chunk, std::uint64_t{1}), tokens);
  if (step < most) step *= most / step;
  return (step + kStep - 1) / kStep * kStep;
}

}  // namespace kvzip
