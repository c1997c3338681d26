// SPDX-License-Identifier: Apache-2.0
#include "src/report/inspect_kvz.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <map>
#include <set>

#include "formats/attribute_text.hpp"
#include "formats/kvz/kvz_growth.hpp"
#include "formats/kvz/kvz_results.hpp"
#include "kvzip/error.hpp"
#include "kvzip/rules.hpp"
#include "src/report/model_text.hpp"

namespace kvzip::tool {
namespace {

struct Sums {
  std::uint64_t groups = 0, values = 0, source_bytes = 0, coded_bytes = 0, frames = 0, raw_frames = 0;
  std::array<std::uint64_t, kStreamLabels> stream_bytes{};

  /// Frames of containers that come through a pipe are not measured.
  bool measured() const { return coded_bytes > 0 || values == 0; }
  std::optional<double> bits() const { return measured() ? bits_of(coded_bytes, values) : std::nullopt; }
  void add(const KvzGroup& group) {
    ++groups;
    values += group.values;
    source_bytes += group.source_bytes;
    coded_bytes += group.coded_bytes;
    frames += group.frames;
    raw_frames += group.raw_frames;
    for (std::size_t i = 0; i < kStreamLabels; ++i) stream_bytes[i] += group.stream_bytes[i];
  }
};

Json streams_json(const Sums& sums) {
  Json out = Json::object();
  for (std::size_t i = 0; i < kStreamLabels; ++i) {
    if (sums.stream_bytes[i] == 0) continue;
    out[std::string(stream_label_name(static_cast<StreamLabel>(i)))] = sums.stream_bytes[i];
  }
  return out;
}

Json members_json(const KvzGroup& group) {
  Json out = Json::array();
  for (const KvzMember& member : group.members) {
    out.push_back({{"role", role_name(member.role)}, {"layer", member.layer}, {"values", member.values}});
  }
  return out;
}

std::string streams_text(const Sums& sums) {
  std::string out;
  for (std::size_t i = 0; i < kStreamLabels; ++i) {
    if (sums.stream_bytes[i] == 0) continue;
    if (!out.empty()) out += ", ";
    out += fmt::format("{} {}", stream_label_name(static_cast<StreamLabel>(i)), size_text(sums.stream_bytes[i]));
  }
  return out.empty() ? "-" : out;
}

Json sums_json(const Sums& sums) {
  return {{"values", sums.values},
          {"source_bytes", sums.source_bytes},
          {"coded_bytes", sums.measured() ? Json(sums.coded_bytes) : Json(nullptr)},
          {"frames", sums.frames},
          {"raw_frames", sums.raw_frames},
          {"streams", streams_json(sums)},
          {"bits_per_value", json_number(sums.bits())},
          {"ratio", json_number(ratio_of(sums.source_bytes, sums.coded_bytes))}};
}

std::map<Role, Sums> sums_by_role(const KvzSummary& summary) {
  std::map<Role, Sums> out;
  for (const KvzGroup& group : summary.groups) out[group.role].add(group);
  return out;
}

Json totals_json(const KvzSummary& summary) {
  Json out = Json::object();
  Sums all;
  for (const auto& [role, sums] : sums_by_role(summary)) out[std::string(role_name(role))] = sums_json(sums);
  for (const KvzGroup& group : summary.groups) all.add(group);
  Json file{{"values", all.values}, {"source_bytes", all.source_bytes}, {"file_bytes", nullptr}};
  // From a pipe the size of the whole file is not known.
  const bool known = summary.file_bytes > 0;
  if (known) file["file_bytes"] = summary.file_bytes;
  file["bits_per_value"] = known ? json_number(bits_of(summary.file_bytes, all.values)) : Json(nullptr);
  file["ratio"] = known ? json_number(ratio_of(all.source_bytes, summary.file_bytes)) : Json(nullptr);
  out["file"] = std::move(file);
  return out;
}

/// Groups of what passes through have no layer of their own; the tensor's name may give one.
std::optional<std::uint32_t> layer_of(const KvzGroup& group, const Recognition& recognition) {
  return group.layer || group.tensors.empty() ? group.layer : recognition.tensors[group.tensors[0]].layer;
}

/// Layers of a group, ascending.
std::vector<std::uint32_t> layers_of(const KvzGroup& group, const Recognition& recognition) {
  std::set<std::uint32_t> layers;
  for (const KvzMember& member : group.members) layers.insert(member.layer);
  if (layers.empty()) {
    if (const auto layer = layer_of(group, recognition)) layers.insert(*layer);
  }
  return {layers.begin(), layers.end()};
}

/// Names of a group's tensors, each once; with `patterns`, or over several layers, without their layers' numbers.
std::string group_names(const Dump& dump, const Recognition& recognition, const KvzGroup& group, bool patterns) {
  const bool several = layers_of(group, recognition).size() > 1;
  std::vector<std::string> names;
  for (std::size_t i = 0; i < group.tensors.size(); ++i) {
    std::optional<std::uint32_t> layer;
    if (patterns || several) layer = group.members.empty() ? layer_of(group, recognition) : group.members[i].layer;
    std::string name = name_pattern(dump.tensors[group.tensors[i]].name, layer);
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(std::move(name));
  }
  return fmt::format("{}", fmt::join(names, " + "));
}

struct Row {
  Sums sums;
  std::vector<std::uint32_t> layers;
};

/// Without what a field is by default.
std::string short_pipeline(const std::string& text) {
  try {
    return canonical_pipeline(text);
  } catch (const Error&) {  // that of a group which cannot be decoded
    return text;
  }
}

std::string group_table(const Dump& dump, const Recognition& recognition, const KvzSummary& summary, bool all) {
  const bool grouped = !all && summary.groups.size() > kManyRows;
  std::vector<std::vector<std::string>> order;
  std::map<std::vector<std::string>, Row> rows;
  for (std::size_t i = 0; i < summary.groups.size(); ++i) {
    const KvzGroup& group = summary.groups[i];
    const TensorInfo& first = dump.tensors[group.tensors.at(0)];
    const std::vector<std::uint32_t> layers = layers_of(group, recognition);
    std::vector<std::string> cells{group_names(dump, recognition, group, grouped), std::string(role_name(group.role)),
                                   shape_text(first.shape), std::string(dtype_name(first.dtype)), group.pipeline};
    if (!grouped) cells.push_back(std::to_string(i));
    const auto [at, fresh] = rows.try_emplace(cells);
    if (fresh) order.push_back(cells);
    Row& row = at->second;
    row.sums.add(group);
    // Several groups of one layer (its heads) follow each other.
    for (const std::uint32_t layer : layers) {
      if (row.layers.empty() || row.layers.back() != layer) row.layers.push_back(layer);
    }
  }
  std::vector<std::string> head{"tensor", "role", "layer", "shape", "dtype", ">bits", ">ratio", ">coded"};
  if (all) head.push_back("streams");
  head.push_back("pipeline");
  Table table(std::move(head));
  for (const auto& c : order) {
    const Row& row = rows[c];
    std::vector<std::string> cells{c[0],
                                   c[1],
                                   ranges_text(row.layers),
                                   c[2],
                                   c[3],
                                   number_text(row.sums.bits()),
                                   number_text(ratio_of(row.sums.source_bytes, row.sums.coded_bytes)),
                                   row.sums.measured() ? size_text(row.sums.coded_bytes) : "-"};
    if (all) cells.push_back(streams_text(row.sums));
    cells.push_back(all ? c[4] : short_pipeline(c[4]));
    table.add(std::move(cells));
  }
  return table.text();
}

std::string totals_table(const KvzSummary& summary) {
  Table table({"total", ">source", ">coded", ">bits", ">ratio", ">frames", ">raw", "streams"});
  const auto add = [&](std::string name, const Sums& s, std::uint64_t coded) {
    table.add({std::move(name), size_text(s.source_bytes), coded > 0 ? size_text(coded) : "-",
               number_text(coded > 0 ? bits_of(coded, s.values) : std::nullopt),
               number_text(ratio_of(s.source_bytes, coded)), std::to_string(s.frames), std::to_string(s.raw_frames),
               streams_text(s)});
  };
  Sums all;
  for (const auto& [role, sums] : sums_by_role(summary)) add(std::string(role_name(role)), sums, sums.coded_bytes);
  for (const KvzGroup& group : summary.groups) all.add(group);
  add("file", all, summary.file_bytes);
  return table.text();
}

/// Where frames need those before them to be decoded.
std::string restart_text(const KvzSummary& summary) {
  std::set<std::uint64_t> restarts;
  for (const KvzGroup& group : summary.groups) {
    if (group.restart != 0) restarts.insert(group.restart);
  }
  if (restarts.empty()) return {};
  const std::string most = restarts.size() > 1 ? fmt::format(" to {}", *restarts.rbegin()) : "";
  return fmt::format("chained: decoding can start at a restart point, every {}{} frames\n", *restarts.begin(), most);
}

/// As a container stores them; that there is no bound is said, too.
Json results_json(const KvzResults& results) {
  const Json stored = Json::parse(write_kvz_results(results));
  Json out{{"target", stored["target"]}, {"bound", nullptr}};
  out.update(stored);
  return out;
}

/// What was asked for, and what the writer measured.
std::string results_text(const KvzResults& r) {
  std::string out = fmt::format("asked for: {} {:g}\n", r.target, r.wanted);
  for (const KvzResults::Errors& e : r.errors) {
    out += fmt::format("measured when written: {}s nrmse {:.4g}, rmse {:.4g}, max_abs {:.4g}\n", role_name(e.role),
                       e.nrmse, e.rmse, e.max_abs);
  }
  if (const auto& a = r.attention) {
    out += fmt::format(
        "measured when written: attention output nrmse {:.4g}, KL {:.4g} ({} queries a head, the first "
        "{} tokens decoded)\n",
        a->output_nrmse, a->kl, a->queries, a->split);
  }
  if (r.max_error) out += fmt::format("certified: every key and value within {} of its original\n", *r.max_error);
  return out;
}

/// How much of the context there is, and what of it is no more what it was.
std::string loss_text(const Dump& dump, const Recognition& recognition, const KvzSummary& summary) {
  std::set<Role> lossy;
  bool some_exact = false;
  for (const KvzGroup& group : summary.groups) {
    some_exact |= group.exact;
    if (group.exact) continue;
    lossy.insert(group.role);
    for (const KvzMember& member : group.members) lossy.insert(member.role);
  }
  std::vector<std::string> names;
  for (const Role role : lossy) names.emplace_back(role_name(role));
  std::string out;
  if (const std::uint64_t tokens = tokens_of(dump, recognition); tokens > 0) out = fmt::format("{} tokens; ", tokens);
  if (names.empty()) return out + "every bit comes back\n";
  return out +
         fmt::format("lossy: {}{}\n", fmt::join(names, ", "), some_exact ? "; the rest comes back bit for bit" : "");
}

/// What stands behind the first container.
std::string appended_text(const KvzSummary& summary) {
  std::string out;
  if (summary.base) {
    out += fmt::format("shared: its first {} tokens are those of {}\n", summary.base->tokens, summary.base->file);
  }
  if (summary.appended > 0) out += fmt::format("grown: {} appended behind the first\n", summary.appended);
  if (summary.unfinished > 0) {
    out += fmt::format("{} bytes at the end are of an append that was not finished\n", summary.unfinished);
  }
  return out;
}

Json group_json(const Dump& dump, const Recognition& recognition, const KvzGroup& group) {
  Json names = Json::array();
  for (const std::size_t tensor : group.tensors) names.push_back(dump.tensors[tensor].name);
  Json out{{"tensors", std::move(names)},
           {"role", role_name(group.role)},
           {"layer", json_layer(layer_of(group, recognition))},
           {"pipeline", group.pipeline},
           {"exact", group.exact},
           {"chunk_rows", group.chunk_rows}};
  if (group.restart != 0) out["restart"] = group.restart;
  Sums sums;
  sums.add(group);
  out.update(sums_json(sums));
  if (group.members.size() > 1) out["members"] = members_json(group);
  return out;
}

}  // namespace

Json metadata_json(const Dump& dump) {
  Json out = Json::object();
  for (const Attribute& attribute : dump.attributes) {
    if (attribute.object.empty() && !attribute.name.empty()) out[attribute.name] = dump.text(attribute.name);
  }
  return out;
}

Json attributes_json(const Dump& dump) {
  Json out = Json::array();
  for (const Attribute& attribute : dump.attributes) {
    const bool text = !attribute.dtype && attribute.shape.empty() && attribute.strings.size() == 1;
    if (attribute.object.empty() && text) continue;
    Json one{{"object", attribute.object}, {"name", attribute.name}};
    one.update(Json::parse(metadata_entry(attribute).value));
    out.push_back(std::move(one));
  }
  return out;
}

std::string tables_text(const Tables& tables) {
  Table rows({"table", ">bytes", "type", "hash"});
  for (const auto& table : tables.all()) {
    rows.add({table->name, std::to_string(table->bytes.size()), std::string(table->type_name()), table->hash_text()});
  }
  return rows.text();
}

Json tables_json(const Tables& tables) {
  Json out = Json::array();
  for (const auto& table : tables.all()) {
    out.push_back({{"name", table->name},
                   {"bytes", table->bytes.size()},
                   {"type", table->type_name()},
                   {"hash", table->hash_text()}});
  }
  return out;
}

Json tensor_json(const TensorInfo& info, const TensorRole& role) {
  return {{"name", info.name},        {"role", role_name(role.role)}, {"layer", json_layer(role.layer)},
          {"axes", role.axes.text()}, {"shape", info.shape},          {"dtype", dtype_name(info.dtype)},
          {"bytes", info.bytes()}};
}

LongJson container_json(const std::string& name, const Dump& dump, const Recognition& recognition,
                        const KvzSummary& summary, const Tables* tables) {
  Json out{{"schema", 1},
           {"file", name},
           {"kind", "kvz"},
           {"format", fmt::format("{}.{}", summary.major, summary.minor)},
           {"writer", summary.writer},
           {"preset", summary.preset}};
  Json user = Json::object();
  for (const auto& [key, value] : summary.user) user[key] = value;
  out["user"] = std::move(user);
  out["metadata"] = metadata_json(dump);
  out["attributes"] = attributes_json(dump);
  out["model"] = json_model(recognition.model);
  out["recognised"] = recognition.recognised;
  out["tensors"] = Json::array();
  out["groups"] = Json::array();
  out["tables"] = tables != nullptr ? tables_json(*tables) : Json(nullptr);
  out["totals"] = totals_json(summary);
  if (summary.results) out["results"] = results_json(*summary.results);
  if (summary.base) out["base"] = {{"file", summary.base->file}, {"tokens", summary.base->tokens}};
  if (summary.appended > 0) out["appended"] = summary.appended;
  if (summary.unfinished > 0) out["unfinished_bytes"] = summary.unfinished;
  const auto tensor = [&](std::size_t i) { return tensor_json(dump.tensors[i], recognition.tensors[i]); };
  const auto group = [&](std::size_t i) { return group_json(dump, recognition, summary.groups[i]); };
  return {std::move(out), {{"tensors", {dump.tensors.size(), tensor}}, {"groups", {summary.groups.size(), group}}}};
}

std::string container_text(const std::string& name, const Dump& dump, const Recognition& recognition,
                           const KvzSummary& summary, const Tables* tables, bool all) {
  std::string out = fmt::format("{}: kvz {}.{}, written by {}, preset {}\n", printable(name), summary.major,
                                summary.minor, printable(summary.writer), printable(summary.preset));
  out += model_text(recognition.model) + loss_text(dump, recognition, summary);
  for (const auto& [key, value] : summary.user) out += fmt::format("{} = {}\n", printable(key), printable(value));
  if (summary.results) out += results_text(*summary.results);
  out += restart_text(summary) + appended_text(summary);
  out += "\n" + group_table(dump, recognition, summary, all) + "\n" + totals_table(summary);
  return tables != nullptr && !tables->empty() ? out + "\n" + tables_text(*tables) : out;
}

}  // namespace kvzip::tool
