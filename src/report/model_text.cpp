// SPDX-License-Identifier: Apache-2.0
#include "src/report/model_text.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "src/report/report.hpp"

namespace kvzip::tool {
namespace {

/// A line for layers that have the same of their own: "layers 0-4 6-10: theta 10000, attention to 512 tokens".
std::string own_text(const ModelInfo& model) {
  std::vector<std::pair<LayerAttention, std::vector<std::pair<std::uint32_t, std::uint32_t>>>> kinds;
  for (const auto& entry : model.own) {
    const std::uint32_t layer = entry.first;
    auto same = std::ranges::find_if(kinds, [&](const auto& kind) { return kind.first == entry.second; });
    if (same == kinds.end()) same = kinds.insert(kinds.end(), {entry.second, {}});
    if (!same->second.empty() && same->second.back().second + 1 == layer) {
      same->second.back().second = layer;
    } else {
      same->second.emplace_back(layer, layer);
    }
  }
  std::string out;
  for (const auto& [own, ranges] : kinds) {
    out += "layers";
    for (const auto& [first, last] : ranges) {
      out += first == last ? fmt::format(" {}", first) : fmt::format(" {}-{}", first, last);
    }
    const bool turned = own.rope.state == Rope::State::pre || own.rope.state == Rope::State::post;
    out += turned ? fmt::format(": theta {}", own.rope.theta) : std::string(": no rotary embedding");
    out += own.window > 0 ? fmt::format(", attention to {} tokens\n", own.window) : std::string("\n");
  }
  return out;
}

}  // namespace

std::string model_text(const ModelInfo& model) {
  std::string out = "model: " + (model.model.empty() ? std::string("not named") : printable(model.model));
  if (model.layers > 0) out += fmt::format(", {} layers", model.layers);
  if (model.kv_heads > 0) out += fmt::format(", {} heads", model.kv_heads);
  if (model.head_dim > 0) out += fmt::format(", head dimension {}", model.head_dim);
  const Rope& rope = model.rope;
  switch (rope.state) {
    case Rope::State::unknown:
      out += "; rotary embedding unknown (rope_theta not given)";
      break;
    case Rope::State::none:
      out += "; no rotary embedding";
      break;
    case Rope::State::pre:
    case Rope::State::post:
      out += fmt::format("; keys {} rotary embedding, theta {}, {} layout",
                         rope.state == Rope::State::pre ? "before" : "after", rope.theta,
                         rope.layout == Rope::Layout::half ? "half" : "interleaved");
      break;
  }
  if (model.window > 0) out += fmt::format("; attention to {} tokens", model.window);
  return out + "\n" + own_text(model);
}

}  // namespace kvzip::tool
