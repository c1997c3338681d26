// SPDX-License-Identifier: Apache-2.0
// Calibrated on keys of SmolLM2 and of a small Llama-like model (tests/unit/steady_axes_test.cpp says which shapes):
// over 3 to 64 tokens their means keep 0.21 to 0.70 of the energy beyond what is due to chance, over heads 0.03 at
// most, over channels 0.01; of values 0.04 to 0.24, and over channels 0.005.
#include "formats/steady_axes.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "formats/axes_choice.hpp"
#include "formats/name_patterns.hpp"
#include "formats/take_axes.hpp"

namespace kvzip {
namespace {

constexpr double kLeastOfKeys = 0.15, kLeastOfValues = 0.04, kMostOfOthers = 0.25;
constexpr std::uint64_t kMostExtent = 64, kLeastTokens = 3, kMostBoxes = 16;
constexpr std::size_t kLeastBoxes = 2;

/// The part of the energy of a box that means along each axis keep, beyond chance: 0 for noise, 1 where all entries
/// along it are the same. Axes are those of the tensor.
struct Steadiness {
  std::map<std::size_t, double> along;
  std::map<std::size_t, std::size_t> repeats;  // boxes in which an axis has the same entries twice: heads that share
  std::size_t boxes = 0;

  double part(std::size_t axis) const {
    const auto found = along.find(axis);
    return found == along.end() || boxes == 0 ? 0 : found->second / static_cast<double>(boxes);
  }
};

struct Box {
  std::vector<float> values;
  std::vector<std::uint64_t> count;

  /// Calls `row` with the place of each first entry along an axis, as long as that gives true; the others follow at
  /// `step`. Whether all did.
  template <typename Row>
  bool for_each_row(std::size_t axis, const Row& row) const {
    std::uint64_t step = 1;
    for (std::size_t a = axis + 1; a < count.size(); ++a) step *= count[a];
    for (std::uint64_t outer = 0; outer < values.size(); outer += step * count[axis]) {
      for (std::uint64_t inner = 0; inner < step; ++inner) {
        if (!row(outer + inner, step)) return false;
      }
    }
    return true;
  }

  bool repeats(std::size_t axis) const {
    for (std::uint64_t i = 0; i < count[axis]; ++i) {
      for (std::uint64_t j = i + 1; j < count[axis]; ++j) {
        bool zero = true;
        const bool same = for_each_row(axis, [&](std::uint64_t at, std::uint64_t step) {
          zero = zero && values[at + i * step] == 0;
          return values[at + i * step] == values[at + j * step];
        });
        if (same && !zero) return true;
      }
    }
    return false;
  }
};

void add_box(const Box& box, const std::vector<std::size_t>& axes, Steadiness& to) {
  double energy = 0;
  for (const float v : box.values) energy += static_cast<double>(v) * v;
  if (!std::isfinite(energy) || energy <= 0) return;
  for (const std::size_t axis : axes) {
    const double n = static_cast<double>(box.count[axis]);
    if (n < 2) continue;
    double kept = 0;
    box.for_each_row(axis, [&](std::uint64_t at, std::uint64_t step) {
      double sum = 0;
      for (std::uint64_t i = 0; i < box.count[axis]; ++i) sum += static_cast<double>(box.values[at + i * step]);
      kept += sum * sum / n;
      return true;
    });
    to.along[axis] += (kept / energy - 1 / n) / (1 - 1 / n);
    if (box.repeats(axis)) ++to.repeats[axis];
  }
  ++to.boxes;
}

/// Tensors of which the same orders are in question.
struct Group {
  std::vector<Axes> orders;  // the first is taken, where one is
  bool taken = false;
  std::vector<std::size_t> keys, values, others;  // tensors; pairs are among the keys
};

std::size_t tokens_of(const Axes& axes) {
  return axes.find('T');
}

/// The orders differ in where tokens are, and in nothing but the places of tokens, heads and channels.
bool comparable(const std::vector<Axes>& orders) {
  if (orders.size() < 2) return false;
  for (const Axes& axes : orders) {
    if (axes.size() != orders[0].size()) return false;
    for (std::size_t a = 0; a < axes.size(); ++a) {
      if (Axes::is_inside(axes[a]) != Axes::is_inside(orders[0][a])) return false;
      if (!Axes::is_inside(axes[a]) && axes[a] != orders[0][a]) return false;
    }
    const auto same = [&](const Axes& other) { return tokens_of(other) == tokens_of(axes); };
    if (std::ranges::count_if(orders, same) != 1) return false;
  }
  return true;
}

class Means {
 public:
  Means(DumpReader& reader, Recognition& recognition)
      : reader_(reader), recognition_(recognition), dump_(reader.dump()) {}

  void run() {
    for (auto& [name, group] : groups()) settle(group);
    adopt();
    for (TensorRole& role : recognition_.tensors) role.rivals.clear();
  }

 private:
  std::map<std::string, Group> groups() const {
    std::map<std::string, Group> out;
    for (std::size_t t = 0; t < dump_.tensors.size(); ++t) {
      const TensorRole& role = recognition_.tensors[t];
      const bool taken = role.role != Role::other;
      if (taken && role.rivals.empty()) continue;
      std::vector<Axes> orders = taken ? role.rivals : role.readings;
      if (taken) orders.insert(orders.begin(), role.axes);
      if (!comparable(orders) || orders[0].size() != dump_.tensors[t].shape.size()) continue;
      const Role whose = taken ? role.role : read_name(dump_.tensors[t].name).role;
      std::string name(taken ? "taken" : "open");
      for (const Axes& axes : orders) name += fmt::format(" {}", axes.text());
      Group& group = out[name];
      group.orders = std::move(orders);
      group.taken = taken;
      (whose == Role::value ? group.values : whose == Role::query ? group.others : group.keys).push_back(t);
    }
    return out;
  }

  /// Up to kMostExtent entries along tokens, heads and channels, of the first sequence and, of a pair, the keys; of no
  /// more layers than `left`.
  void add(std::size_t tensor, const Axes& axes, const std::vector<std::size_t>& inside, std::uint64_t& left,
           Steadiness& to) {
    const TensorInfo& info = dump_.tensors[tensor];
    if (dtype_bits(info.dtype) < 8 || info.elements() == 0) return;
    const std::size_t layers = axes.find('L');
    const std::uint64_t boxes =
        layers == Axes::npos ? std::min<std::uint64_t>(left, 1) : std::min(left, info.shape[layers]);
    left -= boxes;
    for (std::uint64_t l = 0; l < boxes; ++l) {
      Slice slice{tensor, std::vector<std::uint64_t>(info.shape.size(), 0), {}};
      slice.count.assign(info.shape.size(), 1);
      for (const std::size_t axis : inside) slice.count[axis] = std::min(kMostExtent, info.shape[axis]);
      if (layers != Axes::npos) slice.start[layers] = l;
      Bytes bytes(slice.elements() * slice_unit(info));
      reader_.read(slice, bytes);
      Box box{std::vector<float>(slice.elements()), slice.count};
      to_float(info.dtype, bytes, box.values);
      add_box(box, inside, to);
    }
  }

  Steadiness look(const Group& group, const std::vector<std::size_t>& tensors) {
    std::vector<std::size_t> inside;
    const Axes& axes = group.orders[0];
    for (std::size_t a = 0; a < axes.size(); ++a) {
      if (Axes::is_inside(axes[a])) inside.push_back(a);
    }
    Steadiness out;
    std::uint64_t left = kMostBoxes;
    for (std::size_t i = 0; i < tensors.size() && left > 0; ++i) add(tensors[i], axes, inside, left, out);
    return out;
  }

  /// The order whose tokens are where means keep most, if that is much.
  static std::optional<Axes> order_of(const Steadiness& seen, const std::vector<Axes>& orders, double least) {
    if (seen.boxes < kLeastBoxes) return std::nullopt;
    const auto part = [&](const Axes& axes) { return seen.part(tokens_of(axes)); };
    const Axes& best = *std::ranges::max_element(orders, {}, part);
    const auto repeats = seen.repeats.find(tokens_of(best));
    if (!(part(best) >= least) || (repeats != seen.repeats.end() && 2 * repeats->second > seen.boxes)) return {};
    for (const auto& [axis, sum] : seen.along) {
      if (axis != tokens_of(best) && !(seen.part(axis) <= kMostOfOthers * part(best))) return std::nullopt;
    }
    return best;
  }

  void settle(Group& group) {
    const Steadiness keys = look(group, group.keys);
    const std::optional<Axes> order = order_of(keys, group.orders, kLeastOfKeys);
    if (!order) return;
    for (const auto* tensors : {&group.keys, &group.others}) {
      for (const std::size_t t : *tensors) take(t, group, *order, keys, "keys");
    }
    // Heads stand where those of keys do; some programs keep keys channel by channel and values token by token.
    std::vector<Axes> both;
    for (const Axes& axes : group.orders) {
      if (axes == *order || (axes.find('H') == order->find('H') && turned(axes, *order))) both.push_back(axes);
    }
    const Steadiness values = both.size() > 1 ? look(group, group.values) : Steadiness();
    const std::optional<Axes> own = both.size() > 1 ? order_of(values, both, kLeastOfValues) : order;
    for (const std::size_t t : group.values) {
      const std::optional<Axes> by_tokens = only_with_tokens_of(t, both, group.keys.front(), *order);
      if (by_tokens) {
        take(t, group, *by_tokens, keys, "keys");
      } else if (own) {
        take(t, group, *own, values, "values");
      } else if (*order != group.orders[0]) {
        leave_open(t, both);
      }
    }
  }

  /// Tokens are where channels of the other are.
  static bool turned(const Axes& a, const Axes& b) { return Axes::is_channel(a[tokens_of(b)]); }

  /// Of several orders the only one that gives a tensor as many tokens as keys have.
  std::optional<Axes> only_with_tokens_of(std::size_t tensor, const std::vector<Axes>& orders, std::size_t key,
                                          const Axes& of_key) const {
    const std::uint64_t tokens = of_key.extent('T', dump_.tensors[key].shape);
    std::optional<Axes> found;
    for (const Axes& axes : orders) {
      if (axes.extent('T', dump_.tensors[tensor].shape) != tokens) continue;
      if (found) return std::nullopt;
      found = axes;
    }
    return found;
  }

  /// What was open only because keys and values did not agree does where one of them is settled now.
  void adopt() {
    std::map<std::uint32_t, std::size_t> settled;
    for (const std::size_t t : taken_) {
      if (recognition_.tensors[t].layer) settled.emplace(*recognition_.tensors[t].layer, t);
    }
    for (std::size_t t = 0; t < dump_.tensors.size(); ++t) {
      const TensorRole& role = recognition_.tensors[t];
      if (role.role != Role::other || role.readings.size() != 1 || role.hint != Hint::layout_or_map) continue;
      const NameReading name = read_name(dump_.tensors[t].name);
      const auto found = name.layer ? settled.find(*name.layer) : settled.end();
      if (found == settled.end() || name.kind != NameKind::single) continue;
      const TensorRole& other = recognition_.tensors[found->second];
      const Axes axes = role.readings[0];
      const auto agrees = [&](char axis) {
        return axes.extent(axis, dump_.tensors[t].shape) == other.axes.extent(axis, dump_.tensors[found->second].shape);
      };
      if (name.role == other.role || !agrees('T') || !agrees('H') || !agrees('B')) continue;
      take_axes(dump_, t, axes,
                fmt::format("axes by convention, which the layer's {}s agree with", role_name(other.role)),
                recognition_);
    }
  }

  /// Several sequences of as many tokens as pages have are likely pages, of which the values say no more.
  static bool like_pages(const Axes& order, const std::vector<std::uint64_t>& shape) {
    const std::uint64_t tokens = order.extent('T', shape);
    return order.extent('B', shape) > 1 && (order.extent('B', shape) > tokens || std::has_single_bit(tokens));
  }

  void take(std::size_t tensor, const Group& group, const Axes& order, const Steadiness& seen, std::string_view whose) {
    const TensorInfo& info = dump_.tensors[tensor];
    if ((group.taken && order == group.orders[0]) || like_pages(order, info.shape)) return;
    if (order.extent('T', info.shape) < kLeastTokens || !fit_problem(order, info.shape).empty()) return;
    std::string parts;
    for (const Axes& other : group.orders) {
      if (other != order)
        parts += fmt::format(", {:.0f} % as {}", 100 * std::max(0.0, seen.part(tokens_of(other))), other.text());
    }
    take_axes(dump_, tensor, order,
              fmt::format("axes by means of channels: over tokens they keep {:.0f} % of the energy of {} as {}{}",
                          100 * seen.part(tokens_of(order)), whose, order.text(), parts),
              recognition_);
    taken_.push_back(tensor);
  }

  void leave_open(std::size_t tensor, const std::vector<Axes>& orders) {
    TensorRole& role = recognition_.tensors[tensor];
    const TensorInfo& info = dump_.tensors[tensor];
    if (role.role != Role::other) --recognition_.recognised;
    role = {.role = Role::other, .layer = {}, .axes = {}, .why = {}, .hint = Hint::layout, .readings = orders};
    role.why = fmt::format("name like {}; ambiguous, {} or {}, as keys are the first", read_name(info.name).pattern,
                           extents_text(orders[0], info.shape), extents_text(orders[1], info.shape));
  }

  DumpReader& reader_;
  Recognition& recognition_;
  const Dump& dump_;
  std::vector<std::size_t> taken_;  // tensors that means have settled
};

}  // namespace

void settle_by_means(DumpReader& reader, Recognition& recognition) {
  if (reader.traits().once) return;
  Means(reader, recognition).run();
}

}  // namespace kvzip
