// SPDX-License-Identifier: Apache-2.0
#include "formats/kvz/kvz_header.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "codec/fail.hpp"
#include "codec/limits.hpp"
#include "formats/json_limits.hpp"
#include "formats/json_text.hpp"
#include "formats/kvz/kvz.hpp"
#include "formats/kvz/kvz_header_fields.hpp"
#include "formats/kvz/kvz_records.hpp"
#include "formats/layer_attention.hpp"
#include "formats/text.hpp"

namespace kvzip {
namespace {

StoredAttribute stored(const Attribute& a) {
  StoredAttribute out;
  out.object = a.object;
  out.name = a.name;
  out.dtype = a.dtype;
  out.shape = a.shape;
  if (a.dtype) {
    out.data = to_hex(a.data);
  } else if (std::all_of(a.strings.begin(), a.strings.end(), [](const std::string& s) { return is_utf8(s); })) {
    out.strings = a.strings;
  } else {
    out.hex_strings.emplace();
    for (const std::string& s : a.strings) out.hex_strings->push_back(to_hex(std::as_bytes(std::span(s))));
  }
  return out;
}

StoredTensor stored(const TensorInfo& info, const TensorRole& role) {
  if (info.shape.size() > limits::kRank) {
    fail(ErrorCode::limit, "tensor {}: more than {} dimensions", quoted(info.name), limits::kRank);
  }
  return {info.name, info.dtype, info.shape, role.role, role.layer, std::string(role.axes.text()), role.why};
}

StoredPipeline stored(const Pipeline& p) {
  const Pipeline::Ids ids = p.ids();
  return {p.text(true), std::string(p.since()), {ids.stages.begin(), ids.stages.end()}, ids.coder};
}

StoredGroup stored(const PlanGroup& g) {
  StoredGroup out;
  out.pipeline = g.pipeline;
  out.role = g.context.role;
  if (!g.tiled) {
    out.tensor = g.slots[0].tensor;
    out.bytes = g.chunk;
    return out;
  }
  const bool by_slot = g.context.heads == 0;
  out.layer = g.context.layer;
  if (!by_slot) {
    out.heads = g.context.heads;
    out.head_dim = g.context.head_dim;
  }
  out.chunk = g.chunk;
  if (g.restart != 0) out.restart = g.restart;
  out.slots.emplace();
  for (const PlanSlot& s : g.slots) {
    StoredSlot slot;
    slot.tensor = s.tensor;
    for (const std::uint64_t f : s.fixed) {
      slot.fixed.push_back(f == PlanSlot::kFree ? std::nullopt : std::optional(f));
    }
    if (by_slot) {
      slot.heads = s.heads;
      slot.head_dim = s.head_dim;
    }
    out.slots->push_back(std::move(slot));
  }
  return out;
}

/// The members of StoredHeader, of whose lists one element is made at a time: there may be very many.
void put(const KvzHeader& h, JsonTextWriter& visit) {
  const ModelInfo& m = h.recognition.model;
  const auto each = [](const auto& list) { return [&list](std::size_t i) { return stored(list[i]); }; };
  visit("writer", h.writer);
  visit("preset", h.preset);
  visit("user", h.user);
  visit("model", StoredModel{m.model, m.layers, m.kv_heads, m.head_dim, m.rope});
  visit.optional("base", h.base);
  visit.list("tensors", h.dump.tensors.size(),
             [&](std::size_t i) { return stored(h.dump.tensors[i], h.recognition.tensors[i]); });
  visit.list("attributes", h.dump.attributes.size(), each(h.dump.attributes));
  visit.list("pipelines", h.plan.pipelines.size(), each(h.plan.pipelines));
  visit.list("groups", h.plan.groups.size(), each(h.plan.groups));
}

/// A member that this kind of attribute, group or slot must have.
template <typename T>
const T& needed(const std::optional<T>& member, std::string_view of, std::string_view name) {
  if (!member) fail(ErrorCode::corrupt, "header: {} has no '{}'", of, name);
  return *member;
}

std::string bytes_as_text(const std::string& hex) {
  const Bytes raw = unhex(hex);
  return {reinterpret_cast<const char*>(raw.data()), raw.size()};
}

Attribute checked(StoredAttribute&& in) {
  Attribute a;
  a.object = std::move(in.object);
  a.name = std::move(in.name);
  a.dtype = in.dtype;
  a.shape = std::move(in.shape);
  const std::string what = fmt::format("attribute {}", quoted(a.name));
  if (a.dtype) {
    a.data = unhex(needed(in.data, what, "data"));
    const TensorInfo as_tensor{what, *a.dtype, a.shape};
    if (as_tensor.bytes() != a.data.size()) fail(ErrorCode::corrupt, "header: {} has {} bytes", what, a.data.size());
  } else if (in.hex_strings) {
    for (const std::string& s : *in.hex_strings) a.strings.push_back(bytes_as_text(s));
  } else {
    needed(in.strings, what, "strings");
    a.strings = std::move(*in.strings);
  }
  const bool marks_group = a.name.empty() && a.strings.empty();
  if (!a.dtype && !marks_group && TensorInfo{a.name, DType::u8, a.shape}.elements() != a.strings.size()) {
    fail(ErrorCode::corrupt, "header: {} has {} strings", what, a.strings.size());
  }
  return a;
}

void add_checked(StoredTensor&& in, KvzHeader& h) {
  TensorInfo info{std::move(in.name), in.dtype, std::move(in.shape)};
  if (info.shape.size() > limits::kRank)
    fail(ErrorCode::corrupt, "header: a tensor of {} dimensions", info.shape.size());
  info.bytes();
  const auto axes = Axes::parse(in.axes);
  if (!axes) fail(ErrorCode::corrupt, "header: axes {} of {}", quoted(in.axes), quoted(info.name));
  TensorRole role;
  role.role = in.role;
  role.layer = in.layer;
  role.axes = *axes;
  role.why = std::move(in.why);
  if (role.role != Role::other && (axes->size() != info.shape.size() || !axes->has_matrix())) {
    fail(ErrorCode::corrupt, "header: the axes of {} do not fit", quoted(info.name));
  }
  h.dump.tensors.push_back(std::move(info));
  h.recognition.tensors.push_back(std::move(role));
}

/// A pipeline whose stages this build lacks is named with the container version that introduced them.
Pipeline checked(const StoredPipeline& in) {
  const auto known = [](auto rows, std::uint64_t id) {
    return std::any_of(rows.begin(), rows.end(), [&](const auto& row) { return row.id == id; });
  };
  const auto unknown = [&](std::string_view what, std::uint64_t id) {
    fail(ErrorCode::unsupported, "{} {} of pipeline '{}' is not in this build; it needs format {} or later", what, id,
         in.text, in.since);
  };
  for (const std::uint64_t id : in.stages) {
    if (!known(stage_table(), id)) unknown("stage", id);
  }
  if (!known(coder_table(), in.coder)) unknown("coder", in.coder);
  Pipeline p = Pipeline::parse(in.text);
  const Pipeline::Ids ids = p.ids();
  if (!std::equal(ids.stages.begin(), ids.stages.end(), in.stages.begin(), in.stages.end()) || ids.coder != in.coder) {
    fail(ErrorCode::corrupt, "header: the ids of pipeline '{}' do not fit its text", in.text);
  }
  return p;
}

std::uint32_t some_heads(std::uint32_t heads) {
  if (heads == 0) fail(ErrorCode::corrupt, "header: 0 heads");
  return heads;
}

PlanSlot checked(const StoredSlot& in, bool by_slot) {
  PlanSlot slot{in.tensor, {}};
  for (const auto& f : in.fixed) {
    if (f == PlanSlot::kFree) fail(ErrorCode::corrupt, "header: an index of {} in 'fixed'", *f);
    slot.fixed.push_back(f.value_or(PlanSlot::kFree));
  }
  if (by_slot) {
    slot.heads = some_heads(needed(in.heads, "a slot", "heads"));
    slot.head_dim = needed(in.head_dim, "a slot", "head_dim");
  }
  return slot;
}

PlanGroup checked(const StoredGroup& in, const ModelInfo& model, std::uint32_t features) {
  PlanGroup g;
  g.pipeline = in.pipeline;
  g.context.role = in.role;
  g.tiled = in.slots.has_value();
  if ((features & kChainedFeature) != 0 && in.restart) {
    g.restart = *in.restart;
    if (g.restart == 0 || !g.tiled) fail(ErrorCode::corrupt, "header: a group's 'restart' is 0, or it holds no tokens");
  }
  if (!g.tiled) {
    g.slots.push_back({needed(in.tensor, "a group", "tensor"), {}});
    g.chunk = needed(in.bytes, "a group", "bytes");
    return g;
  }
  g.chunk = needed(in.chunk, "a group", "chunk");
  g.context.layer = needed(in.layer, "a group", "layer");
  g.context.layers = model.layers;
  g.context.rope = model.attention(g.context.layer).rope;
  const bool by_slot = (features & kMembersFeature) != 0 && !in.heads;
  g.context.heads = by_slot ? 0 : some_heads(needed(in.heads, "a group", "heads"));
  g.context.head_dim = by_slot ? 0 : needed(in.head_dim, "a group", "head_dim");
  for (const StoredSlot& s : *in.slots) g.slots.push_back(checked(s, by_slot));
  return g;
}

void check_names(const Dump& dump) {
  std::vector<std::string_view> names;
  for (const TensorInfo& t : dump.tensors) names.push_back(t.name);
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  if (twice != names.end()) fail(ErrorCode::corrupt, "header: two tensors are called {}", quoted(*twice));
}

KvzHeader checked(StoredHeader&& in, std::uint32_t features) {
  KvzHeader h;
  h.writer = in.writer;
  h.preset = in.preset;
  h.user = std::move(in.user);
  ModelInfo& m = h.recognition.model;
  m.model = in.model.name;
  m.layers = in.model.layers;
  m.kv_heads = in.model.kv_heads;
  m.head_dim = in.model.head_dim;
  m.rope = in.model.rope;
  for (StoredTensor& t : in.tensors) add_checked(std::move(t), h);
  in.tensors = {};  // of many, what comes next has their room
  check_names(h.dump);
  for (const TensorRole& t : h.recognition.tensors) {
    h.recognition.recognised += t.role == Role::key || t.role == Role::value || t.role == Role::pair;
  }
  for (StoredAttribute& a : in.attributes) h.dump.attributes.push_back(checked(std::move(a)));
  in.attributes = {};
  read_layer_attention(h.dump, m, h.user);
  for (const StoredPipeline& p : in.pipelines) h.plan.pipelines.push_back(checked(p));
  for (const StoredGroup& g : in.groups) h.plan.groups.push_back(checked(g, m, features));
  in.groups = {};
  if ((features & kSharedFeature) != 0) {
    h.base = needed(in.base, "a container that shares", "base");
    if (h.base->tokens == 0 || !is_base_name(h.base->file)) {
      fail(ErrorCode::corrupt, "header: no file in this folder is called {}", quoted(h.base->file));
    }
  }
  finish_plan(h.plan, h.dump, h.recognition);
  if ((features & ~h.plan.needs().features & kChainedFeature) != 0) {
    fail(ErrorCode::corrupt, "header: no group is chained, though the first 32 bytes say so");
  }
  return h;
}

}  // namespace

std::string write_kvz_header(const KvzHeader& h) {
  try {
    std::string text;
    JsonTextWriter writer(text);
    put(h, writer);
    writer.close();
    check_json_items(text, "names, attributes and tile groups");
    return text;
  } catch (const nlohmann::json::exception&) {
    fail(ErrorCode::invalid_argument, "a name or attribute is not UTF-8");
  }
}

KvzHeader read_kvz_header(std::string_view text, std::uint32_t features) {
  check_json_items(text, "header");
  const JsonText json = JsonText::parse(text, "header");
  try {
    StoredHeader header;
    JsonReader(json, "header", JsonNumbers::any).read(header);
    return checked(std::move(header), features);
  } catch (Error& e) {
    // Whatever a stage or plan refuses here was not refused by the writer, so the file is damaged.
    if (e.code() == ErrorCode::invalid_argument) {
      e.set_code(ErrorCode::corrupt);
      e.add_where("header");
    }
    throw;
  }
}

}  // namespace kvzip
