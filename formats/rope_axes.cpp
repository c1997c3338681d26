// SPDX-License-Identifier: Apache-2.0
// Calibrated on keys of SmolLM2 (three texts, 2 to 64 tokens): the right reading falls by 0.11 (2 tokens), 0.24 to 0.30
// (3) and 0.29 to 0.51 (8); the wrong one by 0.10 at most, and values in either by 0.11. Single layers of the wrong
// reading reach 0.34 by chance, so that one layer says nothing.
#include "formats/rope_axes.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <tuple>
#include <utility>
#include <vector>

#include "codec/limits.hpp"
#include "codec/portable_math.hpp"
#include "formats/axes_choice.hpp"
#include "formats/name_patterns.hpp"
#include "formats/take_axes.hpp"

namespace kvzip {
namespace {

constexpr double kLeastFall = 0.2, kMostOfOther = 0.25;
constexpr double kFast = 0.3;  // radians a token: slower channels say little of neighbours
constexpr std::uint64_t kLeastLayers = 8, kLeastPairs = 500;

/// Sums over neighbours z0 and z1, of a pair of channels as a complex number.
struct Products {
  double squares = 0, real = 0, imaginary = 0;  // |z0|^2 + |z1|^2, and z1 times the conjugate of z0
};

/// Neighbours along one axis: by whether rotary pairs are half a head apart or side by side, and by pair.
struct Neighbours {
  std::array<std::vector<Products>, 2> of;
  std::uint64_t count = 0;
};

/// By how much turning back lets the squared differences fall, and over how many pairs of channels that is known.
struct Fall {
  double part = 0;
  std::uint64_t pairs = 0;
};

/// Tensors of the same two readings and the same extents.
struct Group {
  std::vector<std::size_t> tensors;
  std::map<std::uint64_t, std::array<Neighbours, 2>> along;  // by channels of a head: the first axis, and the second
  std::uint64_t layers = 0;
};

using GroupKey = std::tuple<std::string, std::string, std::uint64_t, std::uint64_t>;  // readings, and both extents

/// The first of the two axes in question; they are followed by the channels.
std::size_t first_axis(const Axes& axes) {
  return axes.size() - 3;
}

bool is_swap(const TensorRole& role, const TensorInfo& info) {
  if (role.role != Role::other || role.readings.size() != 2) return false;
  const Axes &a = role.readings[0], &b = role.readings[1];
  const std::size_t n = a.size();
  if (n < 3 || n != info.shape.size() || a[n - 1] != 'D' || heads_for_tokens(a).text() != b.text()) return false;
  const char x = a[n - 3], y = a[n - 2];
  return (x == 'H' && y == 'T') || (x == 'T' && y == 'H');
}

void add_products(const float* z0, const float* z1, std::uint64_t channels, double scale, Neighbours& to) {
  const std::size_t pairs = channels / 2;
  for (std::size_t layout = 0; layout < 2; ++layout) {
    std::vector<Products>& sums = to.of[layout];
    sums.resize(pairs);
    for (std::size_t p = 0; p < pairs; ++p) {
      const std::size_t x = layout == 0 ? p : 2 * p, y = layout == 0 ? p + pairs : 2 * p + 1;
      const double a = z0[x], b = z0[y], c = z1[x], d = z1[y];
      sums[p].squares += scale * (a * a + b * b + c * c + d * d);
      sums[p].real += scale * (c * a + d * b);
      sums[p].imaginary += scale * (d * a - c * b);
    }
  }
  ++to.count;
}

/// A block of both axes and the channels; nothing where it has no scale.
void add_block(const std::vector<float>& x, std::uint64_t rows, std::uint64_t columns, std::uint64_t channels,
               std::array<Neighbours, 2>& along) {
  double squares = 0;
  for (const float v : x) squares += static_cast<double>(v) * v;
  if (!std::isfinite(squares) || squares <= 0) return;
  const double scale = static_cast<double>(x.size()) / squares;
  const auto at = [&](std::uint64_t r, std::uint64_t c) { return x.data() + (r * columns + c) * channels; };
  for (std::uint64_t r = 0; r < rows; ++r) {
    for (std::uint64_t c = 0; c < columns; ++c) {
      if (r + 1 < rows) add_products(at(r, c), at(r + 1, c), channels, scale, along[0]);
      if (c + 1 < columns) add_products(at(r, c), at(r, c + 1), channels, scale, along[1]);
    }
  }
}

void add_keys(DumpReader& reader, std::size_t tensor, const Axes& axes, Group& group, std::uint64_t& left) {
  const TensorInfo& info = reader.dump().tensors[tensor];
  const std::size_t first = first_axis(axes);
  const std::uint64_t rows = info.shape[first], columns = info.shape[first + 1], channels = info.shape[first + 2];
  if (channels % 2 != 0 || dtype_bits(info.dtype) < 8 || info.elements() == 0) return;
  const std::uint64_t block = rows * columns * channels;
  if (block > std::min(limits::kRopeElements, left)) return;
  Slice slice{tensor, std::vector<std::uint64_t>(info.shape.size(), 0), info.shape};
  std::fill_n(slice.count.begin(), first, 1);
  Bytes bytes(block * slice_unit(info));
  std::vector<float> values(block);
  for (std::uint64_t seen = block; seen <= limits::kRopeElements && block <= left; seen += block) {
    left -= block;
    reader.read(slice, bytes);
    to_float(info.dtype, bytes, values);
    add_block(values, rows, columns, channels, group.along[channels]);
    std::size_t axis = first;
    while (axis > 0 && (axes[axis - 1] == '2' || ++slice.start[axis - 1] == info.shape[axis - 1])) {
      slice.start[--axis] = 0;  // of keys and values the keys
    }
    if (axis == 0) break;
  }
  group.layers += axes.has('L') ? axes.extent('L', info.shape) : 1;
}

/// Pairs that turn fast under this rotation.
Fall fall_of(const Neighbours& neighbours, std::size_t layout, double theta, const Rope& rope, std::uint64_t channels) {
  const std::uint64_t dims = rope.dims != 0 && rope.dims <= channels ? rope.dims : channels;
  const std::vector<Products>& sums = neighbours.of[layout];
  double before = 0, after = 0;
  Fall out;
  // Pairs half a head apart are half of the rotary channels apart, and were summed for whole heads.
  if (layout == 0 && dims != channels) return out;
  for (std::size_t p = 0; p < std::min<std::size_t>(sums.size(), dims / 2); ++p) {
    const double turn = portable::exp(-2 * static_cast<double>(p) / static_cast<double>(dims) * portable::log(theta)) /
                        (rope.scaling == Rope::Scaling::linear && rope.factor > 1 ? rope.factor : 1);
    if (turn < kFast) break;
    const portable::SinCos s = portable::sincos(turn);
    before += sums[p].squares - 2 * sums[p].real;
    after += sums[p].squares - 2 * (sums[p].real * s.cos + sums[p].imaginary * s.sin);
    out.pairs += neighbours.count;
  }
  if (before > 0) out.part = 1 - after / before;
  return out;
}

/// The most that any usual rotation gives.
Fall best_fall(const Group& group, std::size_t axis, const Rope& rope) {
  constexpr std::array kThetas{1e4, 1e5, 5e5, 1e6};
  Fall best;
  for (const auto& [channels, along] : group.along) {
    for (std::size_t layout = 0; layout < 2; ++layout) {
      for (const double usual : kThetas) {
        const Fall one = fall_of(along[axis], layout, rope.theta > 1 ? rope.theta : usual, rope, channels);
        if (one.pairs > 0 && (best.pairs == 0 || one.part > best.part)) best = one;
      }
    }
  }
  return best;
}

void settle(const Dump& dump, const Group& group, const Rope& rope, Recognition& recognition) {
  // Heads that differ in their channels are no evidence for each other.
  if (group.along.size() != 1 || group.layers < kLeastLayers) return;
  const std::array<Fall, 2> falls{best_fall(group, 0, rope), best_fall(group, 1, rope)};
  const std::size_t right = falls[0].part >= falls[1].part ? 0 : 1;
  const Fall &taken = falls[right], &left = falls[1 - right];
  // No neighbours at all are no evidence for either; too few are none against.
  const bool known = taken.pairs >= kLeastPairs && (left.pairs == 0 || left.pairs >= kLeastPairs);
  if (!known || !(taken.part >= kLeastFall) || !(left.part < kMostOfOther * taken.part)) return;
  for (const std::size_t t : group.tensors) {
    const TensorRole& role = recognition.tensors[t];
    const std::size_t tokens_first = role.readings[0][first_axis(role.readings[0])] == 'T' ? 0 : 1;
    const Axes axes = role.readings[right == 0 ? tokens_first : 1 - tokens_first];
    const Axes other = role.readings[right == 0 ? 1 - tokens_first : tokens_first];
    take_axes(dump, t, axes,
              fmt::format("axes by rotary embedding: turned back, neighbouring keys differ {:.0f} % less as {}, "
                          "{:.0f} % as {}",
                          100 * taken.part, axes.text(), 100 * std::max(left.part, 0.0), other.text()),
              recognition);
  }
}

}  // namespace

void settle_by_rotation(DumpReader& reader, Recognition& recognition) {
  const Rope& rope = recognition.model.rope;
  if (rope.state == Rope::State::pre || rope.state == Rope::State::none || reader.traits().once) return;
  const Dump& dump = reader.dump();
  std::map<GroupKey, Group> groups;
  std::uint64_t left = limits::kRopeDump;
  for (std::size_t t = 0; t < dump.tensors.size(); ++t) {
    const TensorRole& role = recognition.tensors[t];
    const TensorInfo& info = dump.tensors[t];
    if (!is_swap(role, info)) continue;
    const NameReading name = read_name(info.name);
    if (name.kind != NameKind::single && name.kind != NameKind::pair) continue;
    const Axes& axes = role.readings[0];
    const std::size_t first = first_axis(axes);
    Group& group = groups[{std::string(axes.text()), std::string(role.readings[1].text()), info.shape[first],
                           info.shape[first + 1]}];
    group.tensors.push_back(t);
    if (name.role == Role::key || name.role == Role::pair) add_keys(reader, t, axes, group, left);
  }
  for (const auto& [key, group] : groups) settle(dump, group, rope, recognition);
}

}  // namespace kvzip
