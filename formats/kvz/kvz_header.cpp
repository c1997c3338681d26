// SPDX-License-Identifier: Apache-2.0
#include "formats/kvz/kvz_header.hpp"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <set>

#include "codec/fail.hpp"
#include "formats/json_limits.hpp"
#include "formats/kvz/kvz.hpp"
#include "formats/kvz/kvz_records.hpp"
#include "formats/layer_attention.hpp"
#include "formats/text.hpp"

namespace kvzip {
namespace {

using Json = nlohmann::ordered_json;
using Parsed = nlohmann::json;  // looked up by key, in a tree: hostile objects may have very many keys

constexpr std::array<std::string_view, 4> kRopeStates{"unknown", "none", "pre", "post"};
constexpr std::array<std::string_view, 2> kRopeLayouts{"half", "interleaved"};
constexpr std::array<std::string_view, 4> kRopeScalings{"none", "linear", "llama3", "yarn"};

Json attribute_json(const Attribute& a) {
  Json j{{"object", a.object}, {"name", a.name}};
  if (a.dtype) {
    j["dtype"] = dtype_name(*a.dtype);
    j["data"] = to_hex(a.data);
  } else {
    Json strings = Json::array();
    // Bytes that are not UTF-8 cannot stand in JSON; they are kept as hexadecimal text.
    const bool text = std::all_of(a.strings.begin(), a.strings.end(), [](const std::string& s) { return is_utf8(s); });
    for (const std::string& s : a.strings) strings.push_back(text ? s : to_hex(std::as_bytes(std::span(s))));
    j[text ? "strings" : "hex_strings"] = std::move(strings);
  }
  j["shape"] = a.shape;
  return j;
}

Json rope_json(const Rope& r) {
  return {{"state", kRopeStates[static_cast<std::size_t>(r.state)]},
          {"theta", r.theta},
          {"layout", kRopeLayouts[static_cast<std::size_t>(r.layout)]},
          {"scaling", kRopeScalings[static_cast<std::size_t>(r.scaling)]},
          {"factor", r.factor},
          {"low_freq_factor", r.low_freq_factor},
          {"high_freq_factor", r.high_freq_factor},
          {"original_context", r.original_context},
          {"dims", r.dims},
          {"first_position", r.first_position}};
}

void put_heads(Json& out, std::uint32_t heads, std::uint32_t head_dim) {
  out["heads"] = heads;
  out["head_dim"] = head_dim;
}

Json group_json(const PlanGroup& g) {
  if (!g.tiled) {
    return {{"pipeline", g.pipeline},
            {"role", role_name(g.context.role)},
            {"tensor", g.slots[0].tensor},
            {"bytes", g.chunk}};
  }
  Json slots = Json::array();
  for (const PlanSlot& s : g.slots) {
    Json fixed = Json::array();
    for (const std::uint64_t f : s.fixed) fixed.push_back(f == PlanSlot::kFree ? Json(nullptr) : Json(f));
    slots.push_back({{"tensor", s.tensor}, {"fixed", std::move(fixed)}});
    if (g.context.heads == 0) put_heads(slots.back(), s.heads, s.head_dim);
  }
  Json group{{"pipeline", g.pipeline}, {"role", role_name(g.context.role)}, {"layer", g.context.layer}};
  if (g.context.heads != 0) put_heads(group, g.context.heads, g.context.head_dim);
  group["chunk"] = g.chunk;
  if (g.restart != 0) group["restart"] = g.restart;
  group["slots"] = std::move(slots);
  return group;
}

/// Typed access with errors that name the field.
class Node {
 public:
  Node(const Parsed& json, std::string where) : json_(json), where_(std::move(where)) {}

  Node at(const char* key) const {
    if (!json_.is_object() || !json_.contains(key)) fail(ErrorCode::corrupt, "header: {} has no '{}'", where_, key);
    return Node(json_.at(key), fmt::format("{}.{}", where_, key));
  }
  bool has(const char* key) const { return json_.is_object() && json_.contains(key); }
  class Items;
  Items list() const;
  std::string text() const {
    if (!json_.is_string()) fail(ErrorCode::corrupt, "header: {} is no text", where_);
    return json_.get<std::string>();
  }
  std::uint64_t number(std::uint64_t high = ~std::uint64_t{0}) const {
    if (!json_.is_number_unsigned() || json_.get<std::uint64_t>() > high) {
      fail(ErrorCode::corrupt, "header: {} is no number up to {}", where_, high);
    }
    return json_.get<std::uint64_t>();
  }
  double real() const {
    if (!json_.is_number()) fail(ErrorCode::corrupt, "header: {} is no number", where_);
    return json_.get<double>();
  }
  bool null() const { return json_.is_null(); }
  template <std::size_t N>
  std::size_t choice(const std::array<std::string_view, N>& names) const {
    const std::string t = text();
    const auto it = std::find(names.begin(), names.end(), t);
    if (it == names.end()) fail(ErrorCode::unsupported, "header: {} is '{}'", where_, t);
    return static_cast<std::size_t>(it - names.begin());
  }
  std::vector<std::uint64_t> numbers() const;
  DType dtype() const {
    const auto parsed = parse_dtype(text());
    if (!parsed) fail(ErrorCode::unsupported, "header: {} is the unknown dtype '{}'", where_, text());
    return *parsed;
  }
  Role role() const {
    const auto parsed = parse_role(text());
    if (!parsed) fail(ErrorCode::unsupported, "header: {} is the unknown role '{}'", where_, text());
    return *parsed;
  }

 private:
  const Parsed& json_;
  std::string where_;
};

/// The elements of a list, one at a time.
class Node::Items {
 public:
  struct Iterator {
    const Items* items;
    std::size_t at;
    Node operator*() const { return (*items)[at]; }
    Iterator& operator++() { return ++at, *this; }
    bool operator!=(const Iterator& other) const { return at != other.at; }
  };
  Items(const Parsed& json, std::string where) : json_(json), where_(std::move(where)) {}
  std::size_t size() const { return json_.size(); }
  Node operator[](std::size_t i) const { return {json_.at(i), fmt::format("{}[{}]", where_, i)}; }
  Iterator begin() const { return {this, 0}; }
  Iterator end() const { return {this, size()}; }

 private:
  const Parsed& json_;
  std::string where_;
};

Node::Items Node::list() const {
  if (!json_.is_array()) fail(ErrorCode::corrupt, "header: {} is no list", where_);
  return {json_, where_};
}

std::vector<std::uint64_t> Node::numbers() const {
  std::vector<std::uint64_t> values;
  for (const Node& n : list()) values.push_back(n.number());
  return values;
}

Attribute read_attribute(const Node& n) {
  Attribute a;
  a.object = n.at("object").text();
  a.name = n.at("name").text();
  a.shape = n.at("shape").numbers();
  if (n.has("dtype")) {
    a.dtype = n.at("dtype").dtype();
    a.data = unhex(n.at("data").text());
    const TensorInfo as_tensor{"attribute " + a.name, *a.dtype, a.shape};
    if (as_tensor.bytes() != a.data.size())
      fail(ErrorCode::corrupt, "header: attribute '{}' has {} bytes", a.name, a.data.size());
  } else if (n.has("hex_strings")) {
    for (const Node& s : n.at("hex_strings").list()) {
      const Bytes raw = unhex(s.text());
      a.strings.emplace_back(reinterpret_cast<const char*>(raw.data()), raw.size());
    }
  } else {
    for (const Node& s : n.at("strings").list()) a.strings.push_back(s.text());
  }
  const bool marks_group = a.name.empty() && a.strings.empty();
  if (!a.dtype && !marks_group && TensorInfo{a.name, DType::u8, a.shape}.elements() != a.strings.size()) {
    fail(ErrorCode::corrupt, "header: attribute '{}' has {} strings", a.name, a.strings.size());
  }
  return a;
}

void read_tensor(const Node& n, KvzHeader& h) {
  TensorInfo info{n.at("name").text(), n.at("dtype").dtype(), n.at("shape").numbers()};
  if (info.shape.size() > 32) fail(ErrorCode::corrupt, "header: a tensor of {} dimensions", info.shape.size());
  info.bytes();
  TensorRole role;
  role.role = n.at("role").role();
  const std::string axes = n.at("axes").text();
  if (const auto parsed = Axes::parse(axes)) {
    role.axes = *parsed;
  } else {
    fail(ErrorCode::corrupt, "header: axes '{}' of '{}'", axes, info.name);
  }
  role.why = n.at("why").text();
  if (n.has("layer")) role.layer = static_cast<std::uint32_t>(n.at("layer").number(0xffffffff));
  if (role.role != Role::other && (role.axes.size() != info.shape.size() || !role.axes.has_matrix())) {
    fail(ErrorCode::corrupt, "header: the axes of '{}' do not fit", info.name);
  }
  h.dump.tensors.push_back(std::move(info));
  h.recognition.tensors.push_back(std::move(role));
}

Rope read_rope(const Node& n) {
  Rope r;
  r.state = static_cast<Rope::State>(n.at("state").choice(kRopeStates));
  r.theta = n.at("theta").real();
  r.layout = static_cast<Rope::Layout>(n.at("layout").choice(kRopeLayouts));
  r.scaling = static_cast<Rope::Scaling>(n.at("scaling").choice(kRopeScalings));
  r.factor = n.at("factor").real();
  r.low_freq_factor = n.at("low_freq_factor").real();
  r.high_freq_factor = n.at("high_freq_factor").real();
  r.original_context = n.at("original_context").real();
  r.dims = static_cast<std::uint32_t>(n.at("dims").number(0xffffffff));
  r.first_position = n.at("first_position").number();
  return r;
}

/// A pipeline whose stages this build lacks is named with the container version that introduced them.
Pipeline read_pipeline(const Node& n) {
  const std::string text = n.at("text").text(), since = n.at("since").text();
  const auto known = [](auto rows, std::uint64_t id) {
    return std::any_of(rows.begin(), rows.end(), [&](const auto& row) { return row.id == id; });
  };
  for (const Node& id : n.at("stages").list()) {
    if (!known(stage_table(), id.number())) {
      fail(ErrorCode::unsupported, "stage {} of pipeline '{}' is not in this build; it needs format {} or later",
           id.number(), text, since);
    }
  }
  if (!known(coder_table(), n.at("coder").number())) {
    fail(ErrorCode::unsupported, "coder {} of pipeline '{}' is not in this build; it needs format {} or later",
         n.at("coder").number(), text, since);
  }
  Pipeline p = Pipeline::parse(text);
  const auto ids = p.ids();
  const auto stored = n.at("stages").numbers();
  if (!std::equal(ids.stages.begin(), ids.stages.end(), stored.begin(), stored.end()) ||
      ids.coder != n.at("coder").number()) {
    fail(ErrorCode::corrupt, "header: the ids of pipeline '{}' do not fit its text", text);
  }
  return p;
}

void read_heads(const Node& n, std::uint32_t& heads, std::uint32_t& head_dim) {
  heads = static_cast<std::uint32_t>(n.at("heads").number(0xffffffff));
  head_dim = static_cast<std::uint32_t>(n.at("head_dim").number(0xffffffff));
  if (heads == 0) fail(ErrorCode::corrupt, "header: 0 heads");
}

PlanGroup read_group(const Node& n, const ModelInfo& model, std::uint32_t features) {
  PlanGroup g;
  g.pipeline = n.at("pipeline").number();
  g.context.role = n.at("role").role();
  g.tiled = n.has("slots");
  if ((features & kChainedFeature) != 0 && n.has("restart")) {
    g.restart = n.at("restart").number();
    if (g.restart == 0 || !g.tiled) fail(ErrorCode::corrupt, "header: a group's 'restart' is 0, or it holds no tokens");
  }
  if (!g.tiled) {
    g.slots.push_back({n.at("tensor").number(), {}});
    g.chunk = n.at("bytes").number();
    return g;
  }
  g.chunk = n.at("chunk").number();
  g.context.layer = static_cast<std::uint32_t>(n.at("layer").number(0xffffffff));
  g.context.layers = model.layers;
  g.context.rope = model.attention(g.context.layer).rope;
  const bool by_slot = (features & kMembersFeature) != 0 && !n.has("heads");
  if (by_slot) {
    g.context.heads = g.context.head_dim = 0;
  } else {
    read_heads(n, g.context.heads, g.context.head_dim);
  }
  for (const Node& s : n.at("slots").list()) {
    PlanSlot slot{s.at("tensor").number(), {}};
    for (const Node& f : s.at("fixed").list())
      slot.fixed.push_back(f.null() ? PlanSlot::kFree : f.number(PlanSlot::kFree - 1));
    if (by_slot) read_heads(s, slot.heads, slot.head_dim);
    g.slots.push_back(std::move(slot));
  }
  return g;
}

KvzBase read_base(const Node& n) {
  KvzBase base{n.at("file").text(), n.at("tokens").number(), n.at("bytes").number(), n.at("hash").number()};
  if (base.tokens == 0 || !is_base_name(base.file)) {
    fail(ErrorCode::corrupt, "header: no file in this folder is called {}", quoted(base.file));
  }
  return base;
}

KvzHeader read_checked(const Parsed& json, std::uint32_t features) {
  const Node root(json, "header");
  KvzHeader h;
  h.writer = root.at("writer").text();
  h.preset = root.at("preset").text();
  for (const Node& pair : root.at("user").list()) {
    const Node::Items items = pair.list();
    if (items.size() != 2) fail(ErrorCode::corrupt, "header: a user value that is no pair");
    h.user.emplace_back(items[0].text(), items[1].text());
  }
  const Node model = root.at("model");
  ModelInfo& m = h.recognition.model;
  m.model = model.at("name").text();
  m.layers = static_cast<std::uint32_t>(model.at("layers").number(0xffffffff));
  m.kv_heads = static_cast<std::uint32_t>(model.at("kv_heads").number(0xffffffff));
  m.head_dim = static_cast<std::uint32_t>(model.at("head_dim").number(0xffffffff));
  m.rope = read_rope(model.at("rope"));
  std::set<std::string> names;
  for (const Node& n : root.at("tensors").list()) {
    read_tensor(n, h);
    if (!names.insert(h.dump.tensors.back().name).second) {
      fail(ErrorCode::corrupt, "header: two tensors are called {}", quoted(h.dump.tensors.back().name));
    }
  }
  for (const TensorRole& t : h.recognition.tensors) {
    h.recognition.recognised += t.role == Role::key || t.role == Role::value || t.role == Role::pair;
  }
  for (const Node& n : root.at("attributes").list()) h.dump.attributes.push_back(read_attribute(n));
  read_layer_attention(h.dump, m, h.user);
  for (const Node& n : root.at("pipelines").list()) h.plan.pipelines.push_back(read_pipeline(n));
  for (const Node& n : root.at("groups").list()) h.plan.groups.push_back(read_group(n, m, features));
  if ((features & kSharedFeature) != 0) h.base = read_base(root.at("base"));
  finish_plan(h.plan, h.dump, h.recognition);
  if ((features & ~h.plan.needs().features & kChainedFeature) != 0) {
    fail(ErrorCode::corrupt, "header: no group is chained, though the first 32 bytes say so");
  }
  return h;
}

}  // namespace

std::string write_kvz_header(const KvzHeader& h) {
  const ModelInfo& m = h.recognition.model;
  Json j{{"writer", h.writer}, {"preset", h.preset}, {"user", Json::array()}};
  for (const auto& [key, value] : h.user) j["user"].push_back(Json::array({key, value}));
  j["model"] = {{"name", m.model},
                {"layers", m.layers},
                {"kv_heads", m.kv_heads},
                {"head_dim", m.head_dim},
                {"rope", rope_json(m.rope)}};
  if (h.base) {
    j["base"] = {{"file", h.base->file}, {"tokens", h.base->tokens}, {"bytes", h.base->bytes}, {"hash", h.base->hash}};
  }
  j["tensors"] = Json::array();
  for (std::size_t i = 0; i < h.dump.tensors.size(); ++i) {
    const TensorInfo& info = h.dump.tensors[i];
    const TensorRole& role = h.recognition.tensors[i];
    Json t{
        {"name", info.name}, {"dtype", dtype_name(info.dtype)}, {"shape", info.shape}, {"role", role_name(role.role)}};
    if (role.layer) t["layer"] = *role.layer;
    t["axes"] = role.axes.text();
    t["why"] = role.why;
    j["tensors"].push_back(std::move(t));
  }
  j["attributes"] = Json::array();
  for (const Attribute& a : h.dump.attributes) j["attributes"].push_back(attribute_json(a));
  j["pipelines"] = Json::array();
  for (const Pipeline& p : h.plan.pipelines) {
    const auto ids = p.ids();
    j["pipelines"].push_back(
        {{"text", p.text(true)}, {"since", p.since()}, {"stages", ids.stages}, {"coder", ids.coder}});
  }
  j["groups"] = Json::array();
  for (const PlanGroup& g : h.plan.groups) j["groups"].push_back(group_json(g));
  try {
    std::string text = j.dump();
    check_json(text, "names, attributes and tile groups");
    return text;
  } catch (const Json::exception& e) {
    fail(ErrorCode::invalid_argument, "a name or attribute is not UTF-8 ({})", e.what());
  }
}

KvzHeader read_kvz_header(std::string_view text, std::uint32_t features) {
  check_json(text, "header");
  const Parsed json = Parsed::parse(text, nullptr, false);
  if (json.is_discarded()) fail(ErrorCode::corrupt, "header: it is not JSON");
  try {
    return read_checked(json, features);
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
