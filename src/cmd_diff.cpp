// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "formats/attribute_text.hpp"
#include "kvzip/container.hpp"
#include "src/cli/listing.hpp"
#include "src/commands.hpp"
#include "src/report/report.hpp"

namespace kvzip::tool {
namespace {

struct DiffArguments {
  std::string a, b;
  bool json = false;
};

/// A setting's name, and the layer where it is one of a layer.
struct Name {
  std::string text;
  std::optional<std::uint32_t> layer;
  auto operator<=>(const Name&) const = default;
};

/// What settings say, in the order in which they are shown.
class Settings {
 public:
  void add(Name name, const std::string& value) {
    const auto [at, fresh] = values_.try_emplace(name, value);
    if (fresh) {
      order_.push_back(std::move(name));
    } else if (at->second != value) {
      at->second += "; " + value;  // parts of a tensor that are coded differently
    }
  }
  const std::vector<Name>& order() const { return order_; }
  std::optional<std::string> find(const Name& name) const {
    const auto at = values_.find(name);
    return at == values_.end() ? std::nullopt : std::optional(at->second);
  }

 private:
  std::vector<Name> order_;
  std::map<Name, std::string> values_;
};

void add_tensors(Settings& settings, const Dump& dump, const Recognition& recognition, const KvzSummary& summary) {
  for (const KvzGroup& group : summary.groups) {
    std::string coded = group.pipeline;
    if (group.rows > 0) coded += fmt::format(", chunks of {} tokens", group.chunk_rows);
    if (group.restart > 0) coded += fmt::format(", restarts after {} frames", group.restart);
    for (std::size_t i = 0; i < group.tensors.size(); ++i) {
      const TensorInfo& info = dump.tensors[group.tensors[i]];
      const TensorRole& role = recognition.tensors[group.tensors[i]];
      const auto layer = i < group.members.size() ? std::optional(group.members[i].layer) : role.layer;
      settings.add({name_pattern(info.name, layer), layer},
                   fmt::format("{} {}, {}{}{}: {}", dtype_name(info.dtype), shape_text(info.shape),
                               role_name(role.role), role.axes.empty() ? "" : " ", role.axes.text(), coded));
    }
  }
}

void add_results(Settings& settings, const KvzSummary& summary) {
  if (!summary.results) return;
  settings.add({"target", {}}, fmt::format("{} {}", summary.results->target, number_text(summary.results->wanted)));
  if (summary.results->max_error) settings.add({"bound of errors", {}}, number_text(summary.results->max_error));
}

Settings settings_of(const std::string& path) {
  return with_file(path, [&] {
    const auto reader = open_reader(path);
    const KvzReader* kvz = reader->traits().container;
    if (kvz == nullptr) throw UsageError(fmt::format("{}: not a .kvz container", input_name(path)));
    read_out(*reader);
    const KvzSummary& summary = kvz->description();
    Settings settings;
    settings.add({"format", {}}, fmt::format("{}.{}", summary.major, summary.minor));
    settings.add({"preset", {}}, summary.preset);
    add_results(settings, summary);
    for (const auto& [key, value] : summary.user) settings.add({"attribute " + key, {}}, value);
    DumpReader* blocks = stored_blocks(*reader);
    DumpReader& stored = blocks != nullptr ? *blocks : *reader;
    for (const Attribute& attribute : stored.dump().attributes) {
      const MetadataEntry entry = metadata_entry(attribute);
      settings.add({"metadata " + entry.key, {}}, entry.value);
    }
    add_tensors(settings, stored.dump(), *stored.recognition(), summary);
    return settings;
  });
}

/// A setting that differs, in all layers where it does so in the same way.
struct Difference {
  std::string name;
  std::optional<std::string> a, b;
  std::vector<std::uint32_t> layers;
};

std::vector<Difference> differences(const Settings& a, const Settings& b) {
  std::vector<Difference> out;
  const auto add = [&](const Name& name) {
    std::optional<std::string> in_a = a.find(name), in_b = b.find(name);
    if (in_a == in_b) return;
    auto same = std::find_if(out.begin(), out.end(),
                             [&](const Difference& d) { return d.name == name.text && d.a == in_a && d.b == in_b; });
    if (same == out.end()) same = out.insert(out.end(), {name.text, std::move(in_a), std::move(in_b), {}});
    if (name.layer) same->layers.push_back(*name.layer);
  };
  for (const Name& name : a.order()) add(name);
  for (const Name& name : b.order()) {
    if (!a.find(name)) add(name);
  }
  for (Difference& d : out) std::sort(d.layers.begin(), d.layers.end());
  return out;
}

Json difference_json(const Difference& d) {
  return {
      {"setting", d.name}, {"layers", d.layers}, {"a", d.a ? Json(*d.a) : Json()}, {"b", d.b ? Json(*d.b) : Json()}};
}

std::string difference_text(const Difference& d) {
  std::string out = printable(d.name);
  if (!d.layers.empty()) out += fmt::format(", layers {}", ranges_text(d.layers));
  if (d.a) out += "\n- " + printable(*d.a);
  if (d.b) out += "\n+ " + printable(*d.b);
  return out + "\n";
}

int diff(const DiffArguments& o) {
  if (o.a == "-" && o.b == "-") throw UsageError("only one of both can be standard input");
  const std::vector<Difference> found = differences(settings_of(o.a), settings_of(o.b));
  if (o.json) {
    Json list = Json::array();
    for (const Difference& d : found) list.push_back(difference_json(d));
    print_json({{"schema", 1}, {"a", input_name(o.a)}, {"b", input_name(o.b)}, {"differences", std::move(list)}});
  } else if (!found.empty()) {
    std::string out = fmt::format("--- {}\n+++ {}\n", printable(input_name(o.a)), printable(input_name(o.b)));
    for (const Difference& d : found) out += difference_text(d);
    print(out);
  }
  return found.empty() ? kDone : kError;
}

}  // namespace

void add_diff(CLI::App& app, Action& action) {
  CLI::App* command =
      add_command(app, {"diff", "show how the settings of two containers differ", "kvzip diff A B [OPTIONS]",
                        "  kvzip diff monday.kvz tuesday.kvz\n"
                        "  kvzip diff a.kvz b.kvz >changes || echo settings differ\n\n"
                        "Shapes, pipelines, chunks, targets and attributes are compared, not values or\n"
                        "sizes. Exit status: 0 the same, 1 different."});
  auto o = std::make_shared<DiffArguments>();
  command->add_option("A", o->a, "a container")->required();
  command->add_option("B", o->b, "another")->required();
  command->add_flag("--json", o->json, "as JSON");
  command->callback([o, &action] { action = [o] { return diff(*o); }; });
}

}  // namespace kvzip::tool
