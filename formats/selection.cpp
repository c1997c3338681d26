// SPDX-License-Identifier: Apache-2.0
#include "formats/selection.hpp"

#include <algorithm>
#include <cstring>
#include <limits>
#include <set>
#include <string>

#include "codec/fail.hpp"
#include "formats/borrowed_reader.hpp"
#include "formats/left_out.hpp"
#include "formats/parts.hpp"
#include "formats/token_windows.hpp"
#include "formats/without_tensor.hpp"

namespace kvzip {
namespace {

constexpr std::size_t kDropped = std::numeric_limits<std::size_t>::max();

/// What stays of one tensor: a box of it, in the coordinates of its slices.
struct Kept {
  std::size_t source = 0;
  bool whole = true;
  std::vector<std::uint64_t> start, count;  // when not whole
  TensorRole role;
  std::optional<std::size_t> gone{};  // an axis of one entry that the tensor no longer has
};

bool wants(const Selection& selection, Role role) {
  const auto has = [&](Role r) { return std::ranges::find(selection.roles, r) != selection.roles.end(); };
  if (selection.roles.empty() || has(role)) return true;
  if (role == Role::pair) return has(Role::key) || has(Role::value);
  return (role == Role::key || role == Role::value) && has(Role::pair);
}

/// Narrows one axis to [first, last); false when nothing is left of an axis that held something.
bool crop(Kept& kept, std::size_t axis, std::uint64_t first, std::uint64_t last) {
  const std::uint64_t extent = kept.count[axis];
  last = std::min(last, extent);
  if (extent == 0) return true;
  if (first >= last) return false;
  kept.start[axis] = first;
  kept.count[axis] = last - first;
  kept.whole = kept.whole && kept.count[axis] == extent;
  return true;
}

/// Reduces a pair to one half. The axis stays, with one entry, as a batch of one; beside a batch it goes.
void keep_half(Kept& kept, std::size_t axis, Role half) {
  crop(kept, axis, half == Role::key ? 0 : 1, half == Role::key ? 1 : 2);
  kept.role.why += fmt::format("; its {} half", role_name(half));
  kept.role.role = half;
  if (!kept.role.axes.has('B')) {
    kept.role.axes = kept.role.axes.with(axis, 'B');
    return;
  }
  std::string text(kept.role.axes.text());
  kept.role.axes = Axes(text.erase(axis, 1));
  kept.gone = axis;
}

bool crop_layers(Kept& kept, const std::pair<std::uint32_t, std::uint32_t>& layers, const Selection& selection) {
  const std::size_t axis = kept.role.axes.find('L');
  if (axis == Axes::npos) {
    if (kept.role.layer) return *kept.role.layer >= layers.first && *kept.role.layer <= layers.second;
    return kept.role.role == Role::other && !selection.roles.empty();
  }
  if (!crop(kept, axis, layers.first, std::uint64_t{layers.second} + 1)) return false;
  if (!kept.whole) {
    kept.role.why += fmt::format("; layers {}-{} of it", kept.start[axis], kept.start[axis] + kept.count[axis] - 1);
  }
  return true;
}

/// `first` is the position of the tensor's first row.
bool crop_tokens(Kept& kept, std::size_t axis, std::pair<std::uint64_t, std::uint64_t> tokens, std::uint64_t first) {
  if (tokens.second <= first) return kept.count[axis] == 0;
  return crop(kept, axis, tokens.first - std::min(tokens.first, first), tokens.second - first);
}

std::optional<Kept> keep(const TensorInfo& info, std::size_t index, const TensorRole& role, const Selection& selection,
                         std::uint64_t first_position) {
  if (!wants(selection, role.role)) return std::nullopt;
  Kept kept{.source = index, .whole = true, .start = {}, .count = slice_shape(info), .role = role};
  kept.start.assign(kept.count.size(), 0);
  if (kept.role.axes.size() != kept.count.size()) kept.role.axes = {};
  if (selection.layers && !crop_layers(kept, *selection.layers, selection)) return std::nullopt;
  const std::size_t tokens_axis = kept.role.axes.find('T');
  if (selection.tokens && tokens_axis != Axes::npos &&
      !crop_tokens(kept, tokens_axis, *selection.tokens, first_position)) {
    return std::nullopt;
  }
  const std::size_t pair_axis = kept.role.axes.find('2');
  if (role.role == Role::pair && pair_axis != Axes::npos) {
    const bool key = wants(selection, Role::key), value = wants(selection, Role::value);
    if (key != value) keep_half(kept, pair_axis, key ? Role::key : Role::value);
  }
  return kept;
}

/// "layers 0-7, 1024 tokens, roles key, value": what a selection can ask for.
std::string contents(const Dump& dump, const Recognition& recognition) {
  std::uint64_t layers = 0, tokens = 0;
  std::set<std::string_view> roles;
  for (std::size_t i = 0; i < dump.tensors.size(); ++i) {
    const TensorRole& role = recognition.tensors[i];
    const std::vector<std::uint64_t>& shape = dump.tensors[i].shape;
    roles.insert(role_name(role.role));
    if (role.layer) layers = std::max(layers, std::uint64_t{*role.layer} + 1);
    for (std::size_t a = 0; a < role.axes.size() && a < shape.size(); ++a) {
      if (role.axes[a] == 'L') layers = std::max(layers, shape[a]);
      if (role.axes[a] == 'T') tokens = std::max(tokens, shape[a]);
    }
  }
  const std::string layer_text = layers == 0 ? "no known layers" : fmt::format("layers up to {}", layers - 1);
  return fmt::format("{}, {} tokens, roles {}", layer_text, tokens, fmt::join(roles, " "));
}

/// Keys after rotation need to know where in the sequence they stand: says so in the attributes of a dump that
/// carries such metadata.
void move_first_position(Dump& dump, ModelInfo& model, std::uint64_t by) {
  const std::string before = fmt::to_string(model.rope.first_position);
  model.rope.first_position += by;
  const std::string after = fmt::to_string(model.rope.first_position);
  for (Attribute& attribute : dump.attributes) {
    if (!attribute.object.empty() || attribute.name != "first_position") continue;
    if (dump.text("first_position") != before) return;
    attribute = {.object = {}, .name = attribute.name, .strings = {after}, .dtype = {}, .shape = {}, .data = {}};
    return;
  }
  if (model.rope.state == Rope::State::unknown) return;
  dump.attributes.push_back(
      {.object = {}, .name = "first_position", .strings = {after}, .dtype = {}, .shape = {}, .data = {}});
}

/// Attributes of the file, of tensors that stay, and of groups that hold such or never held any.
std::vector<Attribute> remaining_attributes(const Dump& whole, const std::vector<TensorInfo>& kept) {
  const auto names_of = [](const std::vector<TensorInfo>& tensors) {
    std::set<std::string_view> names;
    for (const TensorInfo& tensor : tensors) names.insert(tensor.name);
    return names;
  };
  const std::set<std::string_view> before = names_of(whole.tensors), after = names_of(kept);
  const auto holds = [](const std::set<std::string_view>& names, const std::string& object) {
    if (names.contains(object)) return true;
    const std::string group = object + '/';
    const auto found = names.lower_bound(group);
    return found != names.end() && found->starts_with(group);
  };
  std::vector<Attribute> remaining;
  for (const Attribute& attribute : whole.attributes) {
    const std::string& object = attribute.object;
    if (object.empty() || holds(after, object) || !holds(before, object)) remaining.push_back(attribute);
  }
  return remaining;
}

class SelectReader : public DumpReader, public LeavesOut {
 public:
  /// `first`: the position of each tensor's first row. `without`: a tensor that goes, whatever else is asked for.
  SelectReader(std::unique_ptr<DumpReader> inner, const Recognition& recognition, const Selection& selection,
               const std::vector<std::uint64_t>& first, std::size_t without = kDropped)
      : inner_(std::move(inner)) {
    reads_through(*inner_);
    const Dump& whole = inner_->dump();
    if (recognition.tensors.size() != whole.tensors.size()) {
      fail(ErrorCode::invalid_argument, "the recognition given is not that of the dump");
    }
    recognition_.model = recognition.model;
    target_.assign(whole.tensors.size(), kDropped);
    // Pass-through tensors alone are not what a range of layers or tokens was meant to leave.
    bool wanted_axes = false, kept_axes = false;
    for (std::size_t i = 0; i < whole.tensors.size(); ++i) {
      if (i == without) continue;
      const TensorRole& role = recognition.tensors[i];
      const bool has_axes = !role.axes.empty() && wants(selection, role.role);
      auto kept = keep(whole.tensors[i], i, role, selection, first[i]);
      wanted_axes = wanted_axes || has_axes;
      kept_axes = kept_axes || (has_axes && kept);
      if (kept) add(std::move(*kept));
    }
    if ((kept_.empty() && without == kDropped) || (wanted_axes && !kept_axes)) {
      fail(ErrorCode::invalid_argument, "the selection leaves nothing; the dump has {}", contents(whole, recognition));
    }
    dump_.attributes = remaining_attributes(whole, dump_.tensors);
    name_halves(recognition);
    if (selection.tokens && selection.tokens->first > 0) {
      move_first_position(dump_, recognition_.model, selection.tokens->first);
    }
    const bool ends = inner_->traits().once;  // a pipe is read to its end, where tokens may follow that are wanted
    for (std::uint64_t i = 0; i < inner_->part_count(); ++i) {
      const auto kept = [&](const Slice& slice) { return map(slice).has_value(); };
      if ((ends && i + 1 == inner_->part_count()) || std::ranges::any_of(inner_->part(i).slices, kept)) {
        source_parts_.push_back(i);
      }
    }
  }

  const Dump& dump() const override { return dump_; }
  const Recognition* recognition() const override { return &recognition_; }
  std::uint64_t part_count() const override { return source_parts_.size(); }

  Part part(std::uint64_t index) const override {
    Part part = inner_->part(source_parts_.at(index));
    part.index = index;
    std::vector<Slice> mapped;
    for (const Slice& slice : part.slices) {
      if (const auto box = map(slice)) mapped.push_back(without_gone(*box));
    }
    part.slices = std::move(mapped);
    return part;
  }

  /// Until expand(), the part is the inner reader's but for its index.
  void fetch(Part& part) override {
    const std::uint64_t index = part.index, source = source_parts_.at(index);
    part = inner_->part(source);
    part.index = source;
    inner_->fetch(part);
    part.index = index;
  }

  void expand(Part& part) const override {
    Part cropped;
    cropped.index = part.index;
    part.index = source_parts_.at(part.index);
    inner_->expand(part);
    cropped.result = std::move(part.result);
    for (std::size_t i = 0; i < part.slices.size(); ++i) {
      auto outer = map(part.slices[i]);
      if (!outer) continue;
      cropped.data.push_back(crop_data(part.slices[i], *outer, std::move(part.data[i])));
      cropped.slices.push_back(without_gone(*outer));
    }
    part = std::move(cropped);
  }

  void read(const Slice& slice, std::span<std::byte> out) override {
    check_slice(dump_, slice, out.size());
    const Kept& kept = kept_[slice.tensor];
    Slice source = slice;
    source.tensor = kept.source;
    if (kept.gone) {
      source.start.insert(source.start.begin() + static_cast<std::ptrdiff_t>(*kept.gone), 0);
      source.count.insert(source.count.begin() + static_cast<std::ptrdiff_t>(*kept.gone), 1);
    }
    for (std::size_t a = 0; a < source.start.size(); ++a) source.start[a] += kept.start[a];
    inner_->read(source, out);
  }

  ReaderTraits traits() override {
    ReaderTraits traits = inner_->traits();
    traits.container = nullptr;
    return traits;
  }
  std::vector<std::string> left_out() const override { return left_out_of(*inner_); }

 private:
  void add(Kept kept) {
    const Dump& whole = inner_->dump();
    TensorInfo info = whole.tensors[kept.source];
    if (!kept.whole) info.shape = kept.count;
    if (kept.gone) info.shape.erase(info.shape.begin() + static_cast<std::ptrdiff_t>(*kept.gone));
    target_[kept.source] = kept_.size();
    const bool recognised =
        kept.role.role == Role::key || kept.role.role == Role::value || kept.role.role == Role::pair;
    recognition_.recognised += recognised ? 1 : 0;
    recognition_.tensors.push_back(kept.role);
    dump_.tensors.push_back(std::move(info));
    kept_.push_back(std::move(kept));
  }

  /// Half of a pair no longer is what its name says, nor has it the order of axes that LMCache's fmt names: the tensor
  /// says itself what it is.
  void name_halves(const Recognition& recognition) {
    std::vector<std::size_t> halves;
    std::set<std::string_view> names;
    for (std::size_t i = 0; i < kept_.size(); ++i) {
      const TensorRole& role = kept_[i].role;
      if (recognition.tensors[kept_[i].source].role != Role::pair || role.role == Role::pair) continue;
      halves.push_back(i);
      names.insert(dump_.tensors[i].name);
    }
    std::erase_if(dump_.attributes, [&](const Attribute& a) {
      return (a.name == "safetensors:fmt" || a.name == "role" || a.name == "axes") && names.contains(a.object);
    });
    for (const std::size_t i : halves) {
      const auto state = [&](std::string name, std::string_view value) {
        dump_.attributes.push_back({dump_.tensors[i].name, std::move(name), {std::string(value)}, {}, {}, {}});
      };
      state("role", role_name(kept_[i].role.role));
      state("axes", kept_[i].role.axes.text());
    }
  }

  /// The same box of a tensor that has lost an axis.
  Slice without_gone(Slice slice) const {
    if (const auto gone = kept_[slice.tensor].gone) {
      slice.start.erase(slice.start.begin() + static_cast<std::ptrdiff_t>(*gone));
      slice.count.erase(slice.count.begin() + static_cast<std::ptrdiff_t>(*gone));
    }
    return slice;
  }

  /// The part of a slice of the inner dump that stays, in the coordinates of the reduced one, with all of its axes.
  std::optional<Slice> map(const Slice& slice) const {
    const std::size_t target = target_[slice.tensor];
    if (target == kDropped) return std::nullopt;
    Slice outer = slice;
    outer.tensor = target;
    const Kept& kept = kept_[target];
    for (std::size_t a = 0; a < slice.start.size(); ++a) {
      const std::uint64_t first = std::max(slice.start[a], kept.start[a]);
      const std::uint64_t last = std::min(slice.start[a] + slice.count[a], kept.start[a] + kept.count[a]);
      if (first >= last) return std::nullopt;
      outer.start[a] = first - kept.start[a];
      outer.count[a] = last - first;
    }
    return outer;
  }

  Bytes crop_data(const Slice& inner, const Slice& outer, Bytes data) const {
    if (outer.count == inner.count) return data;
    const Kept& kept = kept_[outer.tensor];
    const std::size_t unit = slice_unit(dump_.tensors[outer.tensor]);
    Slice box = outer;
    for (std::size_t a = 0; a < box.start.size(); ++a) box.start[a] += kept.start[a] - inner.start[a];
    Bytes cropped(outer.elements() * unit);
    for_each_run(inner.count, box, [&](std::uint64_t from, std::uint64_t to, std::uint64_t elements) {
      std::memcpy(cropped.data() + to * unit, data.data() + from * unit, elements * unit);
    });
    return cropped;
  }

  std::unique_ptr<DumpReader> inner_;
  Dump dump_;
  Recognition recognition_;
  std::vector<Kept> kept_;                   // per tensor of dump_
  std::vector<std::size_t> target_;          // inner tensor -> tensor of dump_, or kDropped
  std::vector<std::uint64_t> source_parts_;  // inner parts that hold something of the selection, ascending
};

/// What stays but for its tokens, and can only be taken with all of them.
void refuse_cuts(DumpReader& inner, const Recognition& recognition, const Selection& selection,
                 const RowPlaces& places) {
  if (places.whole.empty()) return;
  Selection rest = selection;
  rest.tokens.reset();
  const auto view = select(std::make_unique<BorrowedReader>(inner), recognition, rest);
  std::set<std::string_view> names;
  for (const TensorInfo& tensor : view->dump().tensors) names.insert(tensor.name);
  const RowPlaces::Whole* first = nullptr;
  std::size_t others = 0;
  for (const RowPlaces::Whole& whole : places.whole) {
    const bool stays =
        std::ranges::any_of(whole.tensors, [&](const std::string& name) { return names.contains(name); });
    if (!stays || (selection.tokens->first <= whole.least && selection.tokens->second >= places.end)) continue;
    first == nullptr ? void(first = &whole) : void(++others);
  }
  if (first == nullptr) return;
  fail(ErrorCode::invalid_argument, "{}{} cannot be cut by tokens: {}; take tokens {}: or all, or leave its layers out",
       first->what, others > 0 ? fmt::format(" (and {} more)", others) : "", first->why, first->least);
}

}  // namespace

Selection resolved(Selection selection, const RowPlaces& places) {
  if (!selection.last_tokens) return selection;
  const std::uint64_t most = std::numeric_limits<std::uint64_t>::max();
  selection.tokens = {places.end - std::min(places.end, *selection.last_tokens), places.end == 0 ? most : places.end};
  selection.last_tokens.reset();
  return selection;
}

std::unique_ptr<DumpReader> select(std::unique_ptr<DumpReader> inner, const Recognition& recognition,
                                   const Selection& selection) {
  if (selection.empty()) return inner;
  const std::vector<std::uint64_t> first = first_positions(inner->dump(), recognition);
  return std::make_unique<SelectReader>(std::move(inner), recognition, selection, first);
}

std::unique_ptr<DumpReader> select_positions(std::unique_ptr<DumpReader> inner, const Recognition& recognition,
                                             const Selection& selection) {
  if (!selection.tokens && !selection.last_tokens) return select(std::move(inner), recognition, selection);
  const RowPlaces places = row_places(*inner, recognition);
  const Selection found = resolved(selection, places);
  refuse_cuts(*inner, recognition, found, places);
  auto reader = std::make_unique<SelectReader>(std::move(inner), recognition, found, places.first);
  return with_mlx_counts(std::move(reader), places.mlx, *found.tokens);
}

std::unique_ptr<DumpReader> without_tensor(std::unique_ptr<DumpReader> inner, const Recognition& recognition,
                                           std::size_t tensor) {
  const std::vector<std::uint64_t> first(inner->dump().tensors.size(), 0);
  return std::make_unique<SelectReader>(std::move(inner), recognition, Selection(), first, tensor);
}

}  // namespace kvzip
