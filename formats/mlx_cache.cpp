// SPDX-License-Identifier: Apache-2.0
#include "formats/mlx_cache.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <span>

#include "codec/limits.hpp"
#include "formats/text.hpp"

namespace kvzip {
namespace {

constexpr std::string_view kList = "CacheList";

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

/// "3.0" of "3.0.2.1", for two words; the whole name where there are no more.
std::string_view first_words(std::string_view name, unsigned words) {
  std::size_t end = 0;
  for (; words > 0 && end != name.npos; --words) end = name.find('.', end == 0 ? 0 : end + 1);
  return name.substr(0, end);
}

}  // namespace

MlxCache::MlxCache(const Dump& dump) : dump_(dump) {
  const bool numbered = std::ranges::any_of(dump.attributes, [](const Attribute& a) {
    return !rest_of(a, '0').empty() || !rest_of(a, '1').empty() || !rest_of(a, '2').empty();
  });
  present_ = numbered && !dump.tensors.empty() &&
             std::ranges::all_of(dump.tensors, [](const TensorInfo& t) { return !numeric_path(t.name).empty(); });
  if (!present_) return;
  scalars_ = lists_scalars(dump);
  for (const Attribute& a : dump.attributes) {
    if (a.object.empty() && a.strings.size() == 1) texts_.emplace(a.name, a.strings[0]);
  }
  for (std::size_t t = 0; t < dump.tensors.size(); ++t) tensors_.emplace(dump.tensors[t].name, t);
  for (const TensorInfo& tensor : dump.tensors) {
    std::string prefix = prefix_of(tensor.name);
    if (by_prefix_.try_emplace(prefix, parts_.size()).second) parts_.push_back(described(prefix));
  }
  give_layers();
}

std::optional<std::string_view> MlxCache::text(const std::string& name) const {
  const auto found = texts_.find(name);
  return found == texts_.end() ? std::nullopt : std::optional(found->second);
}

std::optional<std::size_t> MlxCache::tensor(const std::string& name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? std::nullopt : std::optional(found->second);
}

std::optional<std::size_t> MlxCache::part_of(std::string_view tensor) const {
  const auto found = by_prefix_.find(prefix_of(tensor));
  return found == by_prefix_.end() ? std::nullopt : std::optional(found->second);
}

std::string MlxCache::prefix_of(std::string_view tensor) const {
  const std::string layer(first_words(tensor, 1));
  if (text(fmt::format("{}.{}", scalars_ ? 1 : 2, layer)) != kList) return layer;
  const std::vector<std::uint32_t> path = numeric_path(tensor);
  if (path.size() < 3) return layer;
  const std::string cache(first_words(tensor, 2));
  if (scalars_) return cache + ".0";
  return text(fmt::format("0.{}.0.{}", layer, path[1])) ? cache : layer;
}

MlxPart MlxCache::described(const std::string& prefix) const {
  MlxPart part;
  part.prefix = prefix;
  const std::string layer(first_words(prefix, 1));
  part.in_list = prefix.size() > layer.size();
  if (!part.in_list) {
    part.named = fmt::format("{}.{}", scalars_ ? 1 : 2, layer);
    part.said = "0." + layer;
    // Files older than the list of classes hold plain caches only.
    part.type = text(part.named).value_or("KVCache");
    part.layer = parse_layer(layer);
  } else if (scalars_) {
    part.named = std::string(first_words(prefix, 2)) + ".1";
    part.type = nested_class(part.named);
  } else {
    const std::string place = prefix.substr(layer.size() + 1);
    part.named = fmt::format("0.{}.0.{}", layer, place);
    part.said = fmt::format("0.{}.1.{}", layer, place);
    part.type = text(part.named).value_or(std::string_view());
  }
  return part;
}

/// The number of code points tells the classes apart whose arrays are keys and values.
std::string MlxCache::nested_class(const std::string& array) const {
  const auto found = tensor(array);
  if (!found || dump_.tensors[*found].shape.size() != 1) return {};
  constexpr std::array<std::string_view, 5> kKnown{"KVCache", "BatchKVCache", "ChunkedKVCache", "RotatingKVCache",
                                                   "QuantizedKVCache"};
  const auto* known = std::ranges::find(kKnown, dump_.tensors[*found].shape[0],
                                        [](std::string_view type) { return std::uint64_t{type.size()}; });
  return known == kKnown.end() ? std::string() : std::string(*known);
}

/// Keys of four axes. Other classes have as many letters as those whose names end with KVCache.
bool MlxCache::has_rows(const MlxPart& part) const {
  const auto keys = tensor(part.prefix + (part.type.starts_with("Quantized") ? ".0.0" : ".0"));
  return keys && dump_.tensors[*keys].shape.size() == 4;
}

void MlxCache::give_layers() {
  std::map<std::uint32_t, std::map<std::uint32_t, MlxPart*>> lists;
  for (MlxPart& part : parts_) {
    if (!part.in_list) continue;
    const std::vector<std::uint32_t> path = numeric_path(part.prefix);
    lists[path[0]].emplace(path[1], &part);
  }
  for (auto& [layer, caches] : lists) {
    std::uint32_t next = 0;
    for (const auto& [place, part] : caches) {
      if (place != next++) break;
      if (!part->type.ends_with("KVCache") || !has_rows(*part)) continue;
      part->layer = layer;
      break;
    }
  }
}

NameReading MlxCache::read(const TensorInfo& tensor, std::string& why) const {
  const auto place = part_of(tensor.name);
  if (!place) return {};  // of another dump
  const MlxPart& part = parts_[*place];
  const std::string_view name = tensor.name;
  // Behind the prefix and a dot; nothing of the array that has the class.
  const std::string_view array = name.starts_with(part.prefix + ".") ? name.substr(part.prefix.size() + 1) : "";
  if (!array.empty() && part.type != kList && (array.find('.') != array.npos || part.type.starts_with("Quantized"))) {
    why = tensor.dtype == DType::u32 ? "packed codes of a quantised MLX cache: stored losslessly"
                                     : "part of a quantised or nested MLX cache: stored losslessly";
    return {};
  }
  if (part.type == kList && !scalars_ && !part.in_list) {
    why = "of a CacheList of mlx-lm before 0.31, which does not say of what classes its caches are: stored losslessly";
    NameReading open;
    open.hint = Hint::map;
    return open;
  }
  if (!holds_rows(part.type) || (array != "0" && array != "1") || tensor.shape.size() != 4) {
    const bool guessed = part.in_list && scalars_;
    why = fmt::format("state of an MLX cache of class {}, not its keys or values: stored losslessly",
                      quoted(part.type.empty() || guessed ? kList : std::string_view(part.type)));
    return {};
  }
  why = remark(part.type);
  const std::string_view pattern = !part.in_list ? "N.0 of an MLX prompt cache"
                                   : scalars_    ? "N.J.0.0 of an MLX prompt cache"
                                                 : "N.J.0 of an MLX prompt cache";
  return {.kind = NameKind::single,
          .role = array == "0" ? Role::key : Role::value,
          .layer = part.layer,
          .family = Family::mlx,
          .pattern = pattern};
}

std::string stated_class(DumpReader& reader, std::size_t array) {
  const TensorInfo& info = reader.dump().tensors[array];
  if (info.dtype != DType::i32 || info.shape.size() != 1 || info.shape[0] > limits::kMlxLetters) return {};
  std::vector<std::int32_t> points(info.shape[0]);
  reader.read({array, {0}, info.shape}, std::as_writable_bytes(std::span(points)));
  if (std::ranges::any_of(points, [](std::int32_t point) { return point <= ' ' || point > '~'; })) return {};
  std::string out;
  for (const std::int32_t point : points) out += static_cast<char>(point);
  return out;
}

}  // namespace kvzip
