// SPDX-License-Identifier: Apache-2.0
// What a container's header holds, member by member, in the order in which a writer puts them (man/kvz.5, "Header").
#pragma once

#include <algorithm>
#include <array>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/json_fields.hpp"
#include "kvzip/axes.hpp"
#include "kvzip/container.hpp"
#include "kvzip/dtype.hpp"
#include "kvzip/role.hpp"
#include "kvzip/rope.hpp"

namespace kvzip {

inline std::span<const std::string_view> names_of(Rope::State) {
  static constexpr std::array<std::string_view, 4> kNames{"unknown", "none", "pre", "post"};
  return kNames;
}
inline std::span<const std::string_view> names_of(Rope::Layout) {
  static constexpr std::array<std::string_view, 2> kNames{"half", "interleaved"};
  return kNames;
}
inline std::span<const std::string_view> names_of(Rope::Scaling) {
  static constexpr std::array<std::string_view, 4> kNames{"none", "linear", "llama3", "yarn"};
  return kNames;
}
template <typename E>
concept Listed = requires(E value) {
  names_of(value);
};

template <Listed E>
std::string_view json_name(E value) {
  return names_of(value)[static_cast<std::size_t>(value)];
}
template <Listed E>
bool from_json_name(std::string_view text, E& value) {
  const auto names = names_of(value);
  const auto at = std::find(names.begin(), names.end(), text);
  if (at == names.end()) return false;
  value = static_cast<E>(at - names.begin());
  return true;
}

inline std::string_view json_name(DType dtype) {
  return dtype_name(dtype);
}
inline bool from_json_name(std::string_view text, DType& dtype) {
  const auto parsed = parse_dtype(text);
  dtype = parsed.value_or(dtype);
  return parsed.has_value();
}
inline std::string_view json_name(Role role) {
  return role_name(role);
}
inline bool from_json_name(std::string_view text, Role& role) {
  const auto parsed = parse_role(text);
  role = parsed.value_or(role);
  return parsed.has_value();
}

void fields(auto& visit, Is<Rope> auto& r) {
  visit("state", r.state);
  visit("theta", r.theta);
  visit("layout", r.layout);
  visit("scaling", r.scaling);
  visit("factor", r.factor);
  visit("low_freq_factor", r.low_freq_factor);
  visit("high_freq_factor", r.high_freq_factor);
  visit("original_context", r.original_context);
  visit("dims", r.dims);
  visit("first_position", r.first_position);
}

void fields(auto& visit, Is<KvzBase> auto& b) {
  visit("file", b.file);
  visit("tokens", b.tokens);
  visit("bytes", b.bytes);
  visit("hash", b.hash);
}

struct StoredModel {
  std::string name;
  std::uint32_t layers = 0, kv_heads = 0, head_dim = 0;
  Rope rope;
};
void fields(auto& visit, Is<StoredModel> auto& m) {
  visit("name", m.name);
  visit("layers", m.layers);
  visit("kv_heads", m.kv_heads);
  visit("head_dim", m.head_dim);
  visit("rope", m.rope);
}

struct StoredTensor {
  std::string name;
  DType dtype{};
  std::vector<std::uint64_t> shape;
  Role role = Role::other;
  std::optional<std::uint32_t> layer;
  std::string axes, why;
};
void fields(auto& visit, Is<StoredTensor> auto& t) {
  visit("name", t.name);
  visit("dtype", t.dtype);
  visit("shape", t.shape);
  visit("role", t.role);
  visit.optional("layer", t.layer);
  visit("axes", t.axes);
  visit("why", t.why);
}

/// Numbers as hexadecimal digits; texts, or the digits of texts that are not UTF-8.
struct StoredAttribute {
  std::string object, name;
  std::optional<DType> dtype;
  std::optional<std::string> data;
  std::optional<std::vector<std::string>> strings, hex_strings;
  std::vector<std::uint64_t> shape;
};
void fields(auto& visit, Is<StoredAttribute> auto& a) {
  visit("object", a.object);
  visit("name", a.name);
  visit.optional("dtype", a.dtype);
  visit.optional("data", a.data);
  visit.optional("strings", a.strings);
  visit.optional("hex_strings", a.hex_strings);
  visit("shape", a.shape);
}

struct StoredPipeline {
  std::string text, since;
  std::vector<std::uint64_t> stages;
  std::uint64_t coder = 0;
};
void fields(auto& visit, Is<StoredPipeline> auto& p) {
  visit("text", p.text);
  visit("since", p.since);
  visit("stages", p.stages);
  visit("coder", p.coder);
}

struct StoredSlot {
  std::uint64_t tensor = 0;
  std::vector<std::optional<std::uint64_t>> fixed;  // none for the tile's own axes
  std::optional<std::uint32_t> heads, head_dim;
};
void fields(auto& visit, Is<StoredSlot> auto& s) {
  visit("tensor", s.tensor);
  visit("fixed", s.fixed);
  visit.optional("heads", s.heads);
  visit.optional("head_dim", s.head_dim);
}

/// With slots a group of tiles, else one tensor in runs of bytes.
struct StoredGroup {
  std::uint64_t pipeline = 0;
  Role role = Role::other;
  std::optional<std::uint64_t> tensor, bytes;
  std::optional<std::uint32_t> layer, heads, head_dim;
  std::optional<std::uint64_t> chunk, restart;
  std::optional<std::vector<StoredSlot>> slots;
};
void fields(auto& visit, Is<StoredGroup> auto& g) {
  visit("pipeline", g.pipeline);
  visit("role", g.role);
  visit.optional("tensor", g.tensor);
  visit.optional("bytes", g.bytes);
  visit.optional("layer", g.layer);
  visit.optional("heads", g.heads);
  visit.optional("head_dim", g.head_dim);
  visit.optional("chunk", g.chunk);
  visit.optional("restart", g.restart);
  visit.optional("slots", g.slots);
}

struct StoredHeader {
  std::string writer, preset;
  std::vector<std::pair<std::string, std::string>> user;
  StoredModel model;
  std::optional<KvzBase> base;
  std::vector<StoredTensor> tensors;
  std::vector<StoredAttribute> attributes;
  std::vector<StoredPipeline> pipelines;
  std::vector<StoredGroup> groups;
};
void fields(auto& visit, Is<StoredHeader> auto& h) {
  visit("writer", h.writer);
  visit("preset", h.preset);
  visit("user", h.user);
  visit("model", h.model);
  visit.optional("base", h.base);
  visit("tensors", h.tensors);
  visit("attributes", h.attributes);
  visit("pipelines", h.pipelines);
  visit("groups", h.groups);
}

}  // namespace kvzip
