// SPDX-License-Identifier: Apache-2.0
#include "formats/whole_file.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <tuple>

namespace kvzip {
namespace {

using Shape = std::vector<std::uint64_t>;
using Group = std::vector<Draft*>;

void settle(Draft& draft, const Axes& axes, std::string_view why) {
  draft.choice = {.axes = axes, .why = std::string(why), .hint = Hint::none, .readings = {}, .firm = true};
}

class Settler {
 public:
  Settler(const Dump& dump, std::vector<Draft>& drafts) : dump_(dump), drafts_(drafts) {}

  void run() {
    tell_latent_of_pairs();
    for (auto& [kind, group] : groups()) {
      if (!follow_firm(group)) follow_constant_heads(group);
    }
    for (auto& [layer, pair] : pairs()) {
      if (pair.key == nullptr || pair.value == nullptr || pair.several) continue;
      check_tokens(*pair.key, *pair.value);
      tell_latent(*pair.key, *pair.value);
    }
    tell_weights();
  }

 private:
  const Shape& shape(const Draft& draft) const { return dump_.tensors[draft.tensor].shape; }
  std::uint64_t extent(const Draft& draft, const Axes& axes, char axis) const {
    return axes.extent(axis, shape(draft));
  }

  /// Tensors that one program writes in one order: of one kind of name and one rank.
  std::map<std::tuple<NameKind, std::size_t, bool, Family>, Group> groups() {
    std::map<std::tuple<NameKind, std::size_t, bool, Family>, Group> out;
    for (Draft& draft : drafts_) {
      const bool open = !draft.choice.axes.empty() || !draft.choice.readings.empty();
      if (draft.stated || !open || draft.reading.role == Role::query) continue;
      out[{draft.reading.kind, shape(draft).size(), draft.reading.layer.has_value(), draft.reading.family}].push_back(
          &draft);
    }
    return out;
  }

  /// Where the dump confirms one order for some, the others of the group have it too.
  bool follow_firm(Group& group) const {
    std::optional<Axes> firm;
    for (const Draft* draft : group) {
      if (!draft->choice.firm) continue;
      if (firm && *firm != draft->choice.axes) return false;
      firm = draft->choice.axes;
    }
    if (!firm) return false;
    for (Draft* draft : group) {
      const bool follows = !draft->choice.firm && draft->choice.axes != *firm &&
                           fit_problem(*firm, shape(*draft)).empty() &&
                           either_order_in_use(draft->reading, *firm, shape(*draft));
      if (follows) settle(*draft, *firm, "as of the other tensors, which the metadata confirms");
    }
    return true;
  }

  /// Layers of different length have the same heads: an axis that is the same in all of them while another varies
  /// counts heads, if it is the shorter one.
  void follow_constant_heads(Group& group) const {
    std::set<std::string> orders;
    for (const Draft* draft : group) {
      for (const Axes& axes : draft->choice.readings) orders.emplace(axes.text());
      if (!draft->choice.axes.empty()) orders.emplace(draft->choice.axes.text());
    }
    std::optional<Axes> found;
    for (const std::string& text : orders) {
      const Axes axes(text);
      for (const Axes& order : {axes, heads_for_tokens(axes)}) {
        if (order.empty() || (found && *found == order) || !explains(group, order)) continue;
        if (found) return;
        found = order;
      }
    }
    if (!found) return;
    for (Draft* draft : group) settle(*draft, *found, "of which heads are the same in all layers and tokens differ");
  }

  bool explains(const Group& group, const Axes& axes) const {
    std::set<std::uint64_t> heads, tokens, dims;
    for (const Draft* draft : group) {
      if (!fit_problem(axes, shape(*draft)).empty() || !either_order_in_use(draft->reading, axes, shape(*draft)))
        return false;
      heads.insert(extent(*draft, axes, 'H'));
      tokens.insert(extent(*draft, axes, 'T'));
      dims.insert(extent(*draft, axes, 'D'));
    }
    return heads.size() == 1 && dims.size() == 1 && tokens.size() > 1 && *tokens.rbegin() > *heads.begin();
  }

  struct Pair {
    Draft *key = nullptr, *value = nullptr;
    bool several = false;
  };

  std::map<std::optional<std::uint32_t>, Pair> pairs() {
    std::map<std::optional<std::uint32_t>, Pair> out;
    for (Draft& draft : drafts_) {
      if (draft.reading.kind != NameKind::single || draft.reading.role == Role::query) continue;
      Pair& pair = out[draft.reading.layer];
      Draft*& place = draft.reading.role == Role::key ? pair.key : pair.value;
      pair.several = pair.several || place != nullptr;
      place = &draft;
    }
    return out;
  }

  /// Keys and values of a layer are of the same tokens; where they are not, one of them was read wrongly.
  void check_tokens(Draft& key, Draft& value) const {
    const bool has_key = !key.choice.axes.empty(), has_value = !value.choice.axes.empty();
    if (has_key != has_value) {
      Draft& read = has_key ? key : value;
      const Draft& other = has_key ? value : key;
      if (read.stated || other.stated || read.choice.firm) return;
      take_back(read, fmt::format("by its name {}, but that does not fit the layer's {}, of shape [{}]",
                                  extents_text(read.choice.axes, shape(read)), has_key ? "values" : "keys",
                                  fmt::join(shape(other), ", ")));
      return;
    }
    if (!has_key || key.stated || value.stated) return;
    const std::uint64_t of_key = extent(key, key.choice.axes, 'T'), of_value = extent(value, value.choice.axes, 'T');
    if (of_key == of_value) return;
    const std::string why = fmt::format("ambiguous, keys of {} tokens and values of {} in one layer", of_key, of_value);
    take_back_for_tokens(key, why);
    take_back_for_tokens(value, why);
  }

  static void take_back(Draft& draft, std::string why) {
    draft.choice = {
        .axes = {}, .why = std::move(why), .hint = Hint::layout_or_map, .readings = {draft.choice.axes}, .firm = false};
  }

  /// With its rivals, where it has some that give other tokens.
  static void take_back_for_tokens(Draft& draft, const std::string& why) {
    const std::vector<Axes> rivals = draft.choice.rivals;
    take_back(draft, why);
    std::vector<Axes>& readings = draft.choice.readings;
    for (const Axes& rival : rivals) {
      if (Axes::is_channel(readings[0][rival.find('T')])) readings.push_back(rival);
    }
  }

  /// Latent attention as transformers and mlx-lm cache it: the latent (keys and values compressed together) in place
  /// of the keys, the rotary part of the keys in place of the values. Both have one head, and the latent is far wider.
  void tell_latent(Draft& key, Draft& value) const {
    const Axes &k = key.choice.axes, &v = value.choice.axes;
    if (k.empty() || v.empty() || !k.has('H') || !v.has('H')) return;
    if (extent(key, k, 'H') != 1 || extent(value, v, 'H') != 1) return;
    const std::uint64_t of_key = extent(key, k, 'D'), of_value = extent(value, v, 'D');
    if (std::max(of_key, of_value) < 2 * std::min(of_key, of_value)) return;
    (of_key > of_value ? key : value).what = "MLA latent";
    (of_key > of_value ? value : key).what = "MLA rope part";
    value.reading.role = Role::key;
  }

  /// DeepSeek's own code (inference/model.py) calls the latent kv_cache and the rotary part pe_cache, both of shape
  /// [batch, tokens, channels]: of two sequences, the one looks like keys and values.
  void tell_latent_of_pairs() {
    const auto place = [&](const Draft& draft) {
      return std::pair(draft.reading.layer, Shape(shape(draft).begin(), shape(draft).end() - 1));
    };
    std::map<std::pair<std::optional<std::uint32_t>, Shape>, std::set<std::uint64_t>> widths;  // of rotary parts
    for (const Draft& draft : drafts_) {
      const bool part = draft.reading.kind == NameKind::rope_part && !shape(draft).empty();
      if (part) widths[place(draft)].insert(shape(draft).back());
    }
    for (Draft& draft : drafts_) {
      if (draft.reading.kind != NameKind::pair || draft.stated || shape(draft).empty()) continue;
      const auto beside = widths.find(place(draft));
      if (beside == widths.end() || beside->second.size() == beside->second.count(shape(draft).back())) continue;
      draft.reading.kind = NameKind::latent;
      draft.reading.role = Role::key;
      draft.choice = choose_axes(draft.reading, shape(draft), {});
    }
  }

  /// Weights of one layer, [channels out, channels in], have their last axis in common; activations have their first.
  void tell_weights() {
    std::map<std::pair<std::optional<std::uint32_t>, std::uint64_t>, std::vector<std::uint64_t>> queries;
    for (const Draft& draft : drafts_) {
      const Shape& own = shape(draft);
      if (draft.reading.kind != NameKind::single || draft.reading.role != Role::query || own.size() != 2) continue;
      std::vector<std::uint64_t>& firsts = queries[{draft.reading.layer, own[1]}];
      // Two that differ are one at least that differs from any other.
      if (firsts.empty() || (firsts.size() == 1 && firsts[0] != own[0])) firsts.push_back(own[0]);
    }
    for (Draft& draft : drafts_) {
      const Shape& own = shape(draft);
      if (draft.reading.kind != NameKind::single || own.size() != 2) continue;
      if (draft.stated || draft.choice.firm || draft.choice.axes.empty()) continue;
      const auto found = queries.find({draft.reading.layer, own[1]});
      if (found == queries.end()) continue;
      const auto other = std::ranges::find_if(found->second, [&](std::uint64_t first) { return first != own[0]; });
      if (other == found->second.end()) continue;
      take_back(draft, fmt::format("ambiguous, {} or weights, as the layer's {} by {} of queries",
                                   extents_text(draft.choice.axes, own), *other, own[1]));
    }
  }

  const Dump& dump_;
  std::vector<Draft>& drafts_;
};

}  // namespace

void settle_together(const Dump& dump, std::vector<Draft>& drafts) {
  Settler(dump, drafts).run();
}

}  // namespace kvzip
