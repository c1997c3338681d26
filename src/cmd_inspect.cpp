// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <map>
#include <memory>

#include "kvzip/container.hpp"
#include "src/commands.hpp"
#include "src/report/inspect_kvz.hpp"
#include "src/report/report.hpp"

namespace kvzip::tool {
namespace {

struct Options {
  Common common;
  Recognising recognising;
  std::string file;
  bool json = false, why = false;
};

Json dump_json(const std::string& path, const Dump& dump, const Recognition& recognition) {
  Json out{{"schema", 1}, {"file", path}, {"kind", "dump"}, {"model", json_model(recognition.model)}};
  out["metadata"] = metadata_json(dump);
  out["recognised"] = recognition.recognised;
  std::uint64_t bytes = 0;
  Json tensors = Json::array();
  for (std::size_t i = 0; i < dump.tensors.size(); ++i) {
    bytes += dump.tensors[i].bytes();
    tensors.push_back(tensor_json(dump.tensors[i], recognition.tensors[i]));
    tensors.back()["why"] = why_text(dump.tensors[i], recognition.tensors[i]);
  }
  out["source_bytes"] = bytes;
  out["tensors"] = std::move(tensors);
  return out;
}

/// Rows of a table; those that differ in their layer only become one when there are many.
struct Row {
  std::vector<std::uint32_t> layers;
  std::uint64_t tensors = 0, bytes = 0;
};

std::string dump_table(const Dump& dump, const Recognition& recognition, bool all) {
  const bool grouped = !all && dump.tensors.size() > kManyRows;
  std::vector<std::vector<std::string>> order;  // cells that do not depend on the layer
  std::map<std::vector<std::string>, Row> rows;
  for (std::size_t i = 0; i < dump.tensors.size(); ++i) {
    const TensorInfo& info = dump.tensors[i];
    const TensorRole& role = recognition.tensors[i];
    std::vector<std::string> cells{grouped ? name_pattern(info.name, role.layer) : info.name,
                                   std::string(role_name(role.role)),
                                   role.axes.empty() ? "-" : std::string(role.axes.text()),
                                   shape_text(info.shape),
                                   std::string(dtype_name(info.dtype)),
                                   why_text(info, role)};
    if (!grouped) cells.push_back(std::to_string(i));
    const auto [at, fresh] = rows.try_emplace(cells);
    if (fresh) order.push_back(cells);
    if (role.layer) at->second.layers.push_back(*role.layer);
    ++at->second.tensors;
    at->second.bytes += info.bytes();
  }
  Table table({"tensor", "role", "layer", "axes", "shape", "dtype", ">bytes", "why"});
  for (const auto& c : order) {
    const Row& row = rows[c];
    const std::string name = row.tensors > 1 ? fmt::format("{} ({} tensors)", c[0], row.tensors) : c[0];
    table.add({name, c[1], ranges_text(row.layers), c[2], c[3], c[4], size_text(row.bytes), c[5]});
  }
  return table.text();
}

std::string dump_text(const std::string& path, const Dump& dump, const Recognition& recognition, bool all) {
  std::uint64_t bytes = 0;
  for (const TensorInfo& info : dump.tensors) bytes += info.bytes();
  return fmt::format("{}: {} tensors, {}; {} of them keys or values\n{}\n{}", printable(path), dump.tensors.size(),
                     size_text(bytes), recognition.recognised, model_text(recognition.model),
                     dump_table(dump, recognition, all));
}

/// What was made of every tensor, one after the other: the whole line of each, however long.
std::string why_lines(const Dump& dump, const Recognition& recognition) {
  std::string out;
  for (std::size_t i = 0; i < dump.tensors.size(); ++i) {
    const TensorInfo& info = dump.tensors[i];
    const TensorRole& role = recognition.tensors[i];
    const std::string axes = role.axes.empty() ? std::string() : fmt::format(" {}", role.axes.text());
    const std::string layer = role.layer ? fmt::format(" of layer {}", *role.layer) : std::string();
    out += fmt::format("{} ({} {}): {}{}{}\n  {}\n", printable(info.name), dtype_name(info.dtype),
                       shape_text(info.shape), role_name(role.role), axes, layer, printable(why_text(info, role)));
  }
  return out;
}

int inspect(const Options& o) {
  if (o.why && o.json) throw UsageError("--why and --json: choose one, the JSON has the reasons, too");
  const std::string name = input_name(o.file);
  return with_file(o.file, [&] {
    const auto reader = open_reader(o.file);
    const Recognition recognition = recognise_input(*reader, o.recognising, {});
    const bool all = o.common.verbose > 0;
    if (const std::string left_out = left_out_text(*reader); !left_out.empty()) note(left_out);
    if (o.why) {
      print(why_lines(reader->dump(), recognition));
    } else if (KvzReader* kvz = reader->traits().container) {
      // What frames take is known only to who can look at all of them, so not from a pipe.
      const KvzSummary summary = reader->traits().once ? kvz->description() : kvz->summary();
      if (o.json) {
        print_json(container_json(name, reader->dump(), recognition, summary));
      } else {
        print(container_text(name, reader->dump(), recognition, summary, all));
      }
    } else if (o.json) {
      print_json(dump_json(name, reader->dump(), recognition));
    } else {
      print(dump_text(name, reader->dump(), recognition, all));
    }
    return kDone;
  });
}

}  // namespace

void add_inspect(CLI::App& app, Action& action) {
  CLI::App* command =
      add_command(app, {"inspect", "show what a file holds and how it is coded", "kvzip inspect FILE [OPTIONS]",
                        "  kvzip inspect cache.safetensors --layout BHTD\n"
                        "  kvzip inspect cache.kvz --json | jq .totals"});
  auto o = std::make_shared<Options>();
  command->add_option("FILE", o->file, "dump or container");
  command->add_flag("--json", o->json, "everything, as JSON");
  command->add_flag("--why", o->why, "what every tensor was taken for, and why");
  add_recognising(*command, o->recognising);
  command->add_flag("-v,--verbose", o->common.verbose, "every tensor, even when there are many");
  command->callback([o, &action] {
    if (o->file.empty()) o->file = piped_input("FILE");
    action = [o] { return inspect(*o); };
  });
}

}  // namespace kvzip::tool
