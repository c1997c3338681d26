// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>

#include "kvzip/container.hpp"
#include "src/cli/batch.hpp"
#include "src/commands.hpp"
#include "src/report/inspect_kvz.hpp"
#include "src/report/report.hpp"

namespace kvzip::tool {
namespace {

struct Options {
  Common common;
  Recognising recognising;
  std::vector<std::string> files;
  bool json = false, why = false;
};

Json dump_json(const std::string& path, const Dump& dump, const Recognition& recognition) {
  Json out{{"schema", 1}, {"file", path}, {"kind", "dump"}, {"model", json_model(recognition.model)}};
  out["metadata"] = metadata_json(dump);
  out["attributes"] = attributes_json(dump);
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

int inspect_tables(const Options& o, const std::string& file, const std::string& name) {
  const Tables tables = load_tables(file);
  if (o.json) {
    print_json({{"schema", 1}, {"file", name}, {"kind", "kvzd"}, {"tables", tables_json(tables)}});
  } else {
    print(fmt::format("{}: {} tables\n\n{}", printable(name), tables.all().size(), tables_text(tables)));
  }
  return kDone;
}

int inspect_file(const Options& o, const std::string& file) {
  const std::string name = input_name(file);
  if (names_tables(file)) return inspect_tables(o, file, name);
  return with_file(file, [&] {
    const auto reader = open_inputs({file}, false, o.recognising);
    const Recognition recognition = recognise_input(*reader, o.recognising, {});
    const bool all = o.common.verbose > 0;
    if (const std::string left_out = left_out_text(*reader); !left_out.empty()) note(left_out);
    if (o.why) {
      print(why_lines(reader->dump(), recognition));
    } else if (KvzReader* kvz = reader->traits().container) {
      // What frames take is known only to who can look at all of them, so not from a pipe.
      const bool once = reader->traits().once;
      const KvzSummary summary = once ? kvz->description() : kvz->summary();
      const Tables* tables = once ? nullptr : &kvz->stored_tables();
      if (o.json) {
        print_json(container_json(name, reader->dump(), recognition, summary, tables));
      } else {
        print(container_text(name, reader->dump(), recognition, summary, tables, all));
      }
    } else if (o.json) {
      print_json(dump_json(name, reader->dump(), recognition));
    } else {
      print(dump_text(name, reader->dump(), recognition, all));
    }
    return kDone;
  });
}

/// A line of a listing: the file, and what is most asked for of it.
std::vector<std::string> listed(const std::string& file) {
  return with_file(file, [&]() -> std::vector<std::string> {
    const auto reader = open_reader(file);
    std::uint64_t source = 0;
    for (const TensorInfo& info : reader->dump().tensors) source += info.bytes();
    const std::string name = printable(input_name(file)), tensors = std::to_string(reader->dump().tensors.size());
    KvzReader* kvz = reader->traits().container;
    std::error_code pipe;
    std::uint64_t bytes = std::filesystem::file_size(file, pipe);
    if (pipe) bytes = reader->traits().once ? 0 : source;
    return {name,
            tensors,
            size_text(source),
            bytes > 0 ? size_text(bytes) : "-",
            number_text(ratio_of(source, bytes)),
            kvz != nullptr ? printable(kvz->description().preset) : "-"};
  });
}

int list_files(const Options& o) {
  Table table({"file", ">tensors", ">source", ">file bytes", ">ratio", "preset"});
  int worst = kDone;
  for (const std::string& file : o.files) {
    const auto failure = failure_of([&] { table.add(listed(file)); });
    if (!failure) continue;
    complain(failure->text);
    worst = std::max(worst, failure->status);
  }
  print(table.text());
  return worst;
}

int inspect(const Options& o) {
  if (o.why && o.json) throw UsageError("--why and --json: choose one, the JSON has the reasons, too");
  if (o.files.size() == 1) return inspect_file(o, o.files[0]);
  if (o.why || o.json) throw UsageError("--why and --json are of one file; several are listed");
  return list_files(o);
}

}  // namespace

void add_inspect(CLI::App& app, Action& action) {
  CLI::App* command =
      add_command(app, {"inspect", "show what a file holds and how it is coded", "kvzip inspect FILE... [OPTIONS]",
                        "  kvzip inspect cache.safetensors --layout BHTD\n"
                        "  kvzip inspect cache.kvz --json | jq .totals"});
  auto o = std::make_shared<Options>();
  command->add_option("FILE", o->files, "dump, container or tables (.kvzd); several are listed");
  command->add_flag("--json", o->json, "everything, as JSON");
  command->add_flag("--why", o->why, "what every tensor was taken for, and why");
  add_recognising(*command, o->recognising);
  add_views(*command, o->recognising);
  command->add_flag("-v,--verbose", o->common.verbose, "every tensor, even when there are many");
  command->callback([o, &action] {
    if (o->files.empty()) o->files.push_back(piped_input("FILE"));
    action = [o] { return inspect(*o); };
  });
}

}  // namespace kvzip::tool
