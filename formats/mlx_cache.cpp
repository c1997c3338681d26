// SPDX-License-Identifier: Apache-2.0
#include "formats/mlx_cache.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <set>

#include "formats/text.hpp"

namespace kvzip {
namespace {

/// Attribute "PLACE.REST" of the file, for a place of one digit; empty otherwise.
std::string_view rest_of(const Attribute& attribute, char place) {
  const std::string_view name = attribute.name;
  if (!attribute.object.empty() || name.size() < 3 || name[1] != '.' || name[0] != place) return {};
  return name.substr(2);
}

/// From 0.32 on the third place is that of scalars: a mark of their own, or pairs of place and kind.
bool lists_scalars(const Dump& dump) {
  return std::ranges::any_of(dump.attributes, [](const Attribute& attribute) {
    const std::string_view rest = rest_of(attribute, '2');
    if (rest.empty() || attribute.strings.size() != 1) return false;
    return rest.find('.') != rest.npos || (rest == "0" && attribute.strings[0].empty());
  });
}

/// Keys and values of these lie in two arrays of four axes.
bool holds_rows(std::string_view type) {
  return type.ends_with("KVCache") && !type.starts_with("Quantized");
}

std::string remark(std::string_view type) {
  if (!type.ends_with("RotatingKVCache")) return {};
  return std::string(kRingRemark);
}

}  // namespace

MlxCache::MlxCache(const Dump& dump) {
  scalars_ = lists_scalars(dump);
  bool numbered = false, nested = false;
  for (const Attribute& attribute : dump.attributes) {
    for (const char place : {'0', '1', '2'}) numbered = numbered || !rest_of(attribute, place).empty();
    const std::string_view layer = rest_of(attribute, scalars_ ? '1' : '2');
    if (layer.empty() || attribute.strings.empty()) continue;
    classes_.emplace(layer, attribute.strings[0]);
    nested = nested || attribute.strings[0] == "CacheList";
  }
  present_ = numbered && !dump.tensors.empty() &&
             std::ranges::all_of(dump.tensors, [](const TensorInfo& t) { return !numeric_path(t.name).empty(); });
  if (!present_ || !nested) return;
  for (const TensorInfo& tensor : dump.tensors) tensors_.emplace(tensor.name, &tensor);
}

std::string_view MlxCache::class_of(std::string_view name) const {
  const auto found = classes_.find(name.substr(0, name.find('.')));
  // Files older than the list of classes hold plain caches only.
  return found == classes_.end() ? "KVCache" : found->second;
}

/// Sub-cache I.J of a CacheList has its class name as code points in I.J.1. Their number tells the classes apart
/// whose arrays are keys and values.
std::string MlxCache::nested_class(std::string_view sub_cache) const {
  const auto found = tensors_.find(std::string(sub_cache) + ".1");
  if (found == tensors_.end() || found->second->shape.size() != 1) return {};
  constexpr std::array<std::string_view, 5> kKnown{"KVCache", "BatchKVCache", "ChunkedKVCache", "RotatingKVCache",
                                                   "QuantizedKVCache"};
  const auto* known = std::ranges::find(kKnown, found->second->shape[0],
                                        [](std::string_view type) { return std::uint64_t{type.size()}; });
  return known == kKnown.end() ? std::string() : std::string(*known);
}

std::vector<MlxPart> MlxCache::parts(const Dump& dump) const {
  std::set<std::string> seen;
  std::vector<MlxPart> out;
  for (const TensorInfo& tensor : dump.tensors) {
    const std::vector<std::uint32_t> path = numeric_path(tensor.name);
    std::string prefix = tensor.name.substr(0, tensor.name.find('.')), type(class_of(tensor.name));
    if (type == "CacheList" && scalars_ && path.size() >= 3) {
      const std::string cache = fmt::format("{}.{}", prefix, path[1]);
      type = nested_class(cache);
      prefix = cache + ".0";
    }
    if (seen.insert(prefix).second) out.push_back({std::move(prefix), std::move(type)});
  }
  return out;
}

NameReading MlxCache::read(const TensorInfo& tensor, std::string& why) const {
  const std::vector<std::uint32_t> path = numeric_path(tensor.name);
  std::string type(class_of(tensor.name));
  std::size_t array = 1;  // place in the path of what tells keys from values
  std::optional<std::uint32_t> layer = path[0];
  if (type == "CacheList" && path.size() == 4 && path[2] == 0) {
    const std::string_view name = tensor.name;
    type = nested_class(name.substr(0, name.find('.', name.find('.') + 1)));
    array = 3;
    // The first cache of a list is the layer's; what stands beside it (an index, a second attention) has no layer.
    if (path[1] != 0) layer.reset();
  } else if (path.size() > 2 || type.starts_with("Quantized")) {
    why = tensor.dtype == DType::u32 ? "packed codes of a quantised MLX cache: stored losslessly"
                                     : "part of a quantised or nested MLX cache: stored losslessly";
    return {};
  }
  if (!holds_rows(type) || path[array] > 1 || tensor.shape.size() != 4) {
    why = fmt::format("state of an MLX cache of class {}, not its keys or values: stored losslessly",
                      quoted(type.empty() ? class_of(tensor.name) : std::string_view(type)));
    return {};
  }
  why = remark(type);
  return {.kind = NameKind::single,
          .role = path[array] == 0 ? Role::key : Role::value,
          .layer = layer,
          .family = Family::mlx,
          .pattern = array == 1 ? "N.0 of an MLX prompt cache" : "N.J.0.0 of an MLX prompt cache"};
}

}  // namespace kvzip
