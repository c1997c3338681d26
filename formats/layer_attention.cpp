// SPDX-License-Identifier: Apache-2.0
#include "formats/layer_attention.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <set>

#include "codec/limits.hpp"
#include "codec/number.hpp"
#include "formats/model_info.hpp"

namespace kvzip {
namespace {

using Layers = std::set<std::uint32_t>;

constexpr std::uint64_t kMostWindow = std::numeric_limits<std::uint64_t>::max() >> 1;

/// What stands between commas, without brackets, quotes and spaces: lists come bare or as JSON.
std::vector<std::string> list_items(std::string_view text) {
  if (text.size() > limits::kLayerList) return {};
  std::vector<std::string> items(1);
  for (const char c : text) {
    if (c == ',') {
      items.emplace_back();
    } else if (std::string_view("[]\"' \t\n").find(c) == std::string_view::npos) {
      items.back() += c;
    }
  }
  if (items.back().empty()) items.pop_back();
  return items;
}

std::optional<std::uint32_t> layer_number(std::string_view text) {
  const auto n = parse_number<std::uint64_t>(text, 0, limits::kLayers - 1);
  return n ? std::optional(static_cast<std::uint32_t>(*n)) : std::nullopt;
}

/// "0-3,6": none where an item is neither a layer nor a range of them, or where they are too many.
Layers listed_layers(std::string_view text) {
  std::vector<std::pair<std::uint32_t, std::uint32_t>> ranges;  // all of them, before time is spent on their layers
  std::size_t room = limits::kSpecialLayers;
  for (const std::string& item : list_items(text)) {
    const std::size_t dash = item.find('-');
    const auto first = layer_number(std::string_view(item).substr(0, dash));
    const auto last = dash == item.npos ? first : layer_number(std::string_view(item).substr(dash + 1));
    if (!first || !last || *first > *last || *last - *first >= room) return {};
    room -= *last - *first + 1;
    ranges.emplace_back(*first, *last);
  }
  Layers out;
  for (const auto& [first, last] : ranges) {
    for (std::uint32_t layer = first; layer <= last; ++layer) out.insert(layer);
  }
  return out;
}

/// Layers whose item in a list of one for each layer is `value`.
Layers layers_with(std::string_view text, std::string_view value) {
  Layers out;
  const std::vector<std::string> items = list_items(text);
  for (std::size_t i = 0; i < std::min<std::size_t>(items.size(), limits::kSpecialLayers); ++i) {
    if (items[i] == value) out.insert(static_cast<std::uint32_t>(i));
  }
  return out;
}

/// Layers that attend to a window: listed, by the type of each, or all but every nth.
Layers local_layers(const Dump& dump, std::uint32_t layers) {
  if (const std::string text = dump.text("local_layers"); !text.empty()) return listed_layers(text);
  if (const std::string text = dump.text("layer_types"); !text.empty()) return layers_with(text, "sliding_attention");
  Layers out;
  const auto every = parse_number<std::uint64_t>(dump.text("sliding_window_pattern"), 2, limits::kLayers);
  for (std::uint32_t layer = 0; every && layer < std::min<std::uint32_t>(layers, limits::kSpecialLayers); ++layer) {
    if ((layer + 1) % *every != 0) out.insert(layer);
  }
  return out;
}

constexpr std::array<std::string_view, 10> kNames{"rope",
                                                  "rope_theta",
                                                  "rope_layout",
                                                  "rope_dims",
                                                  "rope_scaling_type",
                                                  "rope_scaling_factor",
                                                  "rope_low_freq_factor",
                                                  "rope_high_freq_factor",
                                                  "rope_original_context",
                                                  "sliding_window"};

bool speaks_of_layers(std::string_view name) {
  constexpr std::array<std::string_view, 7> kOthers{"local_layers",      "layer_types",    "sliding_window_pattern",
                                                    "rope_theta_local",  "no_rope_layers", "rope_local_base_freq",
                                                    "use_sliding_window"};
  return std::ranges::find(kNames, name.substr(0, name.find('['))) != kNames.end() ||
         std::ranges::find(kOthers, name) != kOthers.end();
}

/// Attributes of all layers, and those of some, which are called NAME[LAYERS].
struct Stated {
  Dump all;
  std::vector<std::pair<Layers, Attribute>> some;
  std::size_t room = limits::kSpecialLayers;  // layers in all lists together: what a hostile file may ask for

  explicit Stated(const Dump& dump) {
    for (const Attribute& a : dump.attributes) {
      const std::size_t bracket = a.name.find('[');
      const std::string name = a.name.substr(0, bracket);
      if (!a.object.empty() || std::ranges::find(kNames, name) == kNames.end()) continue;
      Attribute one = a;
      one.name = name;
      if (bracket == a.name.npos) {
        all.attributes.push_back(std::move(one));
      } else if (a.name.back() == ']') {
        Layers layers = listed_layers(std::string_view(a.name).substr(bracket));
        if (layers.size() > room) return;
        room -= layers.size();
        if (!layers.empty()) some.emplace_back(std::move(layers), std::move(one));
      }
    }
  }
  /// The attributes of one layer by their names.
  Dump of(std::uint32_t layer) const {
    Dump out;
    for (const auto& [layers, attribute] : some) {
      if (layers.contains(layer)) out.attributes.push_back(attribute);
    }
    for (const Attribute& a : all.attributes) {
      if (out.text(a.name).empty()) out.attributes.push_back(a);
    }
    return out;
  }
  bool states(std::uint32_t layer, std::string_view name) const {
    return std::ranges::any_of(some,
                               [&](const auto& one) { return one.first.contains(layer) && one.second.name == name; });
  }
};

std::uint64_t window_of(const Dump& dump) {
  return parse_number<std::uint64_t>(dump.text("sliding_window"), 1, kMostWindow).value_or(0);
}

double local_theta(const Dump& dump) {
  for (const std::string_view name : {"rope_theta_local", "rope_local_base_freq"}) {
    const auto theta = parse_number<double>(dump.text(name), std::numeric_limits<double>::denorm_min());
    if (theta) return *theta;
  }
  return 0;
}

}  // namespace

LayerAttention ModelInfo::attention(std::uint32_t layer) const {
  const auto found = own.find(layer);
  if (found == own.end()) return {rope, window};
  LayerAttention out = found->second;
  out.rope.first_position = rope.first_position;
  return out;
}

void read_layer_attention(const Dump& file, ModelInfo& model,
                          std::span<const std::pair<std::string, std::string>> user) {
  // The first of a name counts, and what says nothing here is not copied.
  Dump dump;
  std::set<std::string_view> names;
  const auto wanted = [&](const std::string& name) { return speaks_of_layers(name) && names.insert(name).second; };
  for (const auto& [name, value] : user) {
    if (wanted(name)) dump.attributes.push_back({"", name, {value}, {}, {}, {}});
  }
  for (const Attribute& a : file.attributes) {
    if (a.object.empty() && wanted(a.name)) dump.attributes.push_back(a);
  }
  const Stated stated(dump);
  const Layers local = local_layers(dump, model.layers);
  // One number a layer: 1 where keys are rotated.
  const Layers plain = layers_with(dump.text("no_rope_layers"), "0");
  const bool windows = dump.text("use_sliding_window") != "false";
  const bool everywhere = dump.text("local_layers").empty() && dump.text("layer_types").empty() && local.empty();
  if (windows && everywhere) model.window = window_of(stated.all);
  const double theta = local_theta(dump);
  Layers special = local;
  special.insert(plain.begin(), plain.end());
  for (const auto& [layers, attribute] : stated.some) special.insert(layers.begin(), layers.end());
  for (const std::uint32_t layer : special) {
    if (model.own.size() == limits::kSpecialLayers) return;
    const Dump here = stated.of(layer);
    LayerAttention own{read_rope(here), 0};
    own.rope.first_position = model.rope.first_position;
    if (windows && (everywhere || local.contains(layer) || stated.states(layer, "sliding_window"))) {
      own.window = window_of(here);
    }
    if (theta != 0 && local.contains(layer) && !stated.states(layer, "rope_theta")) {
      own.rope.theta = theta;
      own.rope.scaling = Rope::Scaling::none;
    }
    if (plain.contains(layer) && !stated.states(layer, "rope")) own.rope.state = Rope::State::none;
    if (own != LayerAttention{model.rope, model.window}) model.own.emplace(layer, own);
  }
}

}  // namespace kvzip
