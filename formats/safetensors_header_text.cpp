// SPDX-License-Identifier: Apache-2.0
#include <map>
#include <nlohmann/json.hpp>

#include "codec/limits.hpp"
#include "formats/attribute_text.hpp"
#include "formats/safetensors_entry.hpp"
#include "formats/safetensors_header.hpp"

namespace kvzip {
namespace {

/// An attribute that a tensor's entry gave, or could have given.
bool is_extra(const Attribute& a) {
  if (a.object.empty() || !a.name.starts_with(kExtra) || a.dtype || !a.shape.empty() || a.strings.size() != 1) {
    return false;
  }
  const std::string_view key = std::string_view(a.name).substr(kExtra.size());
  const bool known = std::find(std::begin(kExtraKeys), std::end(kExtraKeys), key) != std::end(kExtraKeys);
  return (known || a.name == kExtraDtype) && nlohmann::json::accept(a.strings[0]);
}

/// The extra keys by tensor. Those of what is no tensor, as of one that a selection left out, are in none.
std::map<std::string_view, std::vector<const Attribute*>> extras_of(const Dump& dump) {
  std::map<std::string_view, std::vector<const Attribute*>> out;
  for (const Attribute& attribute : dump.attributes) {
    if (is_extra(attribute)) out[attribute.object].push_back(&attribute);
  }
  return out;
}

std::string entry_text(const TensorInfo& info, std::uint64_t begin, std::uint64_t end,
                       const std::vector<const Attribute*>& extras) {
  std::string dtype = fmt::format("\"{}\"", dtype_name(info.dtype)), more;
  for (const Attribute* extra : extras) {
    const std::string key = extra->name.substr(kExtra.size());
    if (extra->name == kExtraDtype) {
      const auto* alias = std::find_if(std::begin(kAliases), std::end(kAliases), [&](const DtypeAlias& a) {
        return a.dtype == info.dtype && json_string(a.name) == extra->strings[0];
      });
      if (alias != std::end(kAliases)) dtype = extra->strings[0];
    } else {
      more += fmt::format(",{}:{}", json_string(key), extra->strings[0]);
    }
  }
  return fmt::format(R"({}:{{"dtype":{},"shape":[{}],"data_offsets":[{},{}]{}}})", json_string(info.name), dtype,
                     fmt::join(info.shape, ","), begin, end, more);
}

}  // namespace

std::string safetensors_header_text(const Dump& dump) {
  std::vector<MetadataEntry> metadata;
  const std::map<std::string_view, std::vector<const Attribute*>> extras = extras_of(dump);
  bool lmcache = false;
  for (const Attribute& attribute : dump.attributes) {
    if (is_extra(attribute)) {
      lmcache = lmcache || attribute.name == kExtraFormat;
      continue;
    }
    metadata.push_back(metadata_entry(attribute));
  }
  require_distinct(
      metadata, [](const MetadataEntry& e) -> std::string_view { return e.key; }, ErrorCode::invalid_argument,
      kMetadata);
  require_distinct(
      dump.tensors, [](const TensorInfo& t) -> std::string_view { return t.name; }, ErrorCode::invalid_argument,
      "tensors");
  std::string out = "{";
  const auto separate = [&] { out += out.back() == '{' ? "" : ","; };
  if (!metadata.empty()) {
    out += fmt::format("\"{}\":{{", kMetadata);
    for (const MetadataEntry& entry : metadata) {
      separate();
      out += json_string(entry.key) + ':' + json_string(entry.value);
    }
    out += '}';
  }
  std::uint64_t begin = 0;
  for (const TensorInfo& info : dump.tensors) {
    if (info.name == kMetadata || !is_utf8(info.name) || info.shape.size() > limits::kRank) {
      fail(ErrorCode::invalid_argument, "tensor {}: safetensors cannot hold this name or {} dimensions",
           quoted(info.name), info.shape.size());
    }
    std::uint64_t end = 0;
    if (__builtin_add_overflow(begin, info.bytes(), &end) || end > kMaxNumber) {
      fail(ErrorCode::limit, "tensor {}: the data is larger than any file can be", quoted(info.name));
    }
    separate();
    const auto own = extras.find(info.name);
    out += entry_text(info, begin, end, own == extras.end() ? std::vector<const Attribute*>() : own->second);
    begin = end;
  }
  out += '}';
  if (lmcache && out.size() <= kLmcacheHeader) out.resize(kLmcacheHeader, ' ');
  out.resize((out.size() + 7) / 8 * 8, ' ');
  if (out.size() > limits::kSafetensorsHeader) {
    fail(ErrorCode::limit, "a safetensors header of {} bytes is larger than the format allows", out.size());
  }
  return out;
}

}  // namespace kvzip
