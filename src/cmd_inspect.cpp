// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>

#include "codec/fail.hpp"
#include "formats/collection.hpp"
#include "formats/file.hpp"
#include "kvzip/container.hpp"
#include "src/cli/batch.hpp"
#include "src/cli/listing.hpp"
#include "src/commands.hpp"
#include "src/measure/comparison.hpp"
#include "src/report/gnuplot.hpp"
#include "src/report/inspect_kvz.hpp"
#include "src/report/layer_plot.hpp"
#include "src/report/model_text.hpp"
#include "src/report/plot_style.hpp"
#include "src/report/progress.hpp"
#include "src/report/report.hpp"

namespace kvzip::tool {
namespace {

struct InspectArguments {
  Common common;
  Recognising recognising;
  std::vector<std::string> files;
  std::string plot, original;
  bool json = false, why = false, recursive = false;
  bool many = false;  // a line of JSON for each file
};

LongJson dump_json(const std::string& path, const Dump& dump, const Recognition& recognition) {
  Json out{{"schema", 1}, {"file", path}, {"kind", "dump"}, {"model", json_model(recognition.model)}};
  out["metadata"] = metadata_json(dump);
  out["attributes"] = attributes_json(dump);
  out["recognised"] = recognition.recognised;
  std::uint64_t bytes = 0;
  for (const TensorInfo& info : dump.tensors) bytes += info.bytes();
  out["source_bytes"] = bytes;
  out["tensors"] = Json::array();
  const auto tensor = [&](std::size_t i) {
    Json one = tensor_json(dump.tensors[i], recognition.tensors[i]);
    one["why"] = why_text(dump.tensors[i], recognition.tensors[i]);
    return one;
  };
  return {std::move(out), {{"tensors", {dump.tensors.size(), tensor}}}};
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

/// The command that gives the tensors back; a name that says no format needs one.
std::string decoding_text(const std::string& name) {
  const bool ends = name.ends_with(".kvz");
  const std::string stem = ends ? name.substr(0, name.size() - 4) : name;
  const std::string to = ends && !format_of_path(stem).empty() ? "" : " -o " + shell_word(stem + ".safetensors");
  return "\nto decode: kvzip decompress " + shell_word(name) + to + "\n";
}

using Spots = std::map<std::pair<Role, std::uint32_t>, Distortion>;

/// What became of the keys and values of each layer.
Spots errors_by_layer(const InspectArguments& o, DumpReader& container) {
  const auto opened = with_file(o.original, [&] { return open_reader(o.original); });
  DumpReader& original = form_in(container.dump(), *opened);
  const Recognition roles = with_file(o.original, [&] { return recognise_input(original, o.recognising, {}); });
  ProgressLine progress("errors", true);
  Spots out;
  for (const TensorComparison& t : compare_dumps(original, container, roles, {}, progress.callback()).tensors) {
    if (!t.layer) continue;
    if (t.role != Role::pair) {
      out[{t.role, *t.layer}].merge(t.half[0].distortion);
    } else {
      out[{Role::key, *t.layer}].merge(t.half[0].distortion);
      out[{Role::value, *t.layer}].merge(t.half[1].distortion);
    }
  }
  return out;
}

/// Members of a group have its rate.
void plot(const InspectArguments& o, const std::string& name, DumpReader& reader, const KvzSummary& summary) {
  std::map<std::pair<Role, std::uint32_t>, std::pair<double, std::uint64_t>> taken;  // bytes, values
  for (const KvzGroup& group : summary.groups) {
    for (const KvzMember& member : group.members) {
      auto& [bytes, values] = taken[{member.role, member.layer}];
      bytes += static_cast<double>(group.coded_bytes) * static_cast<double>(member.values) /
               static_cast<double>(std::max<std::uint64_t>(group.values, 1));
      values += member.values;
    }
  }
  const Spots errors = o.original.empty() ? Spots() : errors_by_layer(o, reader);
  std::map<Role, std::vector<LayerPoint>> roles;
  for (const auto& [of, sum] : taken) {
    LayerPoint point{of.second, sum.second > 0 ? 8 * sum.first / static_cast<double>(sum.second) : 0};
    if (const auto error = errors.find(of); error != errors.end()) point.error = error->second.nrmse();
    roles[of.first].push_back(point);
  }
  if (roles.empty()) fail_in(name, ErrorCode::invalid_argument, "no keys or values: there is nothing to draw");
  const std::string title = fmt::format("{}, preset {}", name, summary.preset);
  write_picture(o.plot, plot_layers(title, roles, plot_format(o.plot)), o.common.force);
}

void show_json(const InspectArguments& o, const std::string& name, LongJson out) {
  add_bytes_of_name(out.json, "file", name);
  o.many ? print_json_line(out.json, out.lists) : print_json(out.json, out.lists);
}

int inspect_tables(const InspectArguments& o, const std::string& file, const std::string& name) {
  const Tables tables = load_tables(file);
  if (o.json) {
    show_json(o, name, {Json{{"schema", 1}, {"file", name}, {"kind", "kvzd"}, {"tables", tables_json(tables)}}, {}});
  } else {
    print(fmt::format("{}: {} tables\n\n{}", printable(name), tables.all().size(), tables_text(tables)));
  }
  return kDone;
}

void show_file(const InspectArguments& o, const std::string& name, DumpReader& opened) {
  note_quantised(opened);
  // What is in a container is shown as it is there.
  DumpReader* blocks = opened.traits().container != nullptr && !o.why ? stored_blocks(opened) : nullptr;
  DumpReader* reader = blocks != nullptr ? blocks : &opened;
  const Recognition recognition = recognise_input(*reader, o.recognising, {});
  const bool all = o.common.verbose > 0;
  if (const std::string left_out = left_out_text(*reader); !left_out.empty()) note(left_out);
  if (o.why) {
    print(why_lines(reader->dump(), recognition));
  } else if (KvzReader* kvz = reader->traits().container) {
    // What frames take is known only to who can look at all of them, so not from a pipe.
    const bool once = reader->traits().once;
    const KvzSummary summary = once ? kvz->description() : kvz->summary();
    if (!o.plot.empty()) {
      require_file(*reader, "--plot");
      plot(o, name, *reader, summary);
      return;
    }
    const Tables* tables = once ? nullptr : &kvz->stored_tables();
    if (o.json) {
      show_json(o, name, container_json(name, reader->dump(), recognition, summary, tables));
    } else {
      print(container_text(name, reader->dump(), recognition, summary, tables, all) +
            (name == input_name("-") ? "" : decoding_text(name)));
    }
  } else if (!o.plot.empty()) {
    throw UsageError("--plot draws what a container's layers take; this is a dump");
  } else if (o.json) {
    show_json(o, name, dump_json(name, reader->dump(), recognition));
  } else {
    print(dump_text(name, reader->dump(), recognition, all));
  }
}

int inspect_file(const InspectArguments& o, const std::string& file) {
  const std::string name = input_name(file);
  if (names_tables(file)) return inspect_tables(o, file, name);
  return with_file(file, [&] {
    const auto opened = open_shown(file, [&] { return open_inputs({file}, false, o.recognising); });
    show_file(o, name, *opened);
    read_out(*opened);
    return kDone;
  });
}

int inspect_collection(const InspectArguments& o, const std::string& file) {
  const std::vector<std::string> members = member_paths(file);
  if (o.why || !o.plot.empty()) {
    throw UsageError(fmt::format("--why and --plot are of one container: name it, as {}", shell_word(members.at(0))));
  }
  Table table({"member", ">tensors", ">source", ">file bytes", ">ratio", "preset", "begins with"});
  Json list = Json::array();
  const int worst = list_each(members, [&](const std::string& path, const Listed& one) {
    const std::string name = path.substr(file.size() + 1);
    std::vector<std::string> row = row_of(name, one);
    row.push_back(one.base ? fmt::format("{} tokens of {}", one.base->tokens, printable(one.base->file)) : "-");
    table.add(row);
    list.push_back({{"name", name},
                    {"tensors", one.tensors},
                    {"source_bytes", one.source},
                    {"file_bytes", one.bytes},
                    {"preset", one.preset}});
    if (one.base) list.back()["base"] = {{"file", one.base->file}, {"tokens", one.base->tokens}};
  });
  const std::uint64_t bytes = stored_bytes(file).value_or(0);
  if (o.json) {
    const Json out{{"schema", 1}, {"file", file}, {"kind", "collection"}, {"file_bytes", bytes}, {"members", list}};
    show_json(o, file, {out, {}});
  } else {
    print(
        fmt::format("{}: a collection of containers ({}), {}\n\n{}\nto decode: kvzip decompress {} --output-dir DIR\n",
                    printable(file), members.size(), size_text(bytes), table.text(), shell_word(file)));
  }
  return worst;
}

/// A line of JSON for each that can be opened; the status is that of the rest.
int inspect_each(InspectArguments o, const std::vector<std::string>& files) {
  o.many = true;
  if (files.size() > 1) give_up_silent_pipes();
  int worst = kDone;
  for (const std::string& file : files) {
    const auto failure = failure_of([&] { inspect_file(o, file); });
    if (!failure) continue;
    complain(failure->text);
    worst = std::max(worst, failure->status);
  }
  return worst;
}

int inspect(const InspectArguments& o) {
  if (o.plot.empty()) keep_progress_apart();
  if (o.why && o.json) throw UsageError("--why and --json: choose one, the JSON has the reasons, too");
  if (o.plot.empty() && !o.original.empty()) throw UsageError("--original goes with --plot");
  if (!o.plot.empty()) {
    if (o.why || o.json) throw UsageError("--plot draws, --why and --json write: choose one");
    as_typed("--plot", [&] { plot_format(o.plot); });
    require_gnuplot();
    for (const std::vector<std::string>& in : {o.files, {o.original}}) refuse_same_file(in, o.plot);
  }
  // What --raw and --join read is one dump, whatever is in its folder.
  const bool one_dump = !o.recognising.raw.empty() || o.recognising.by_tokens;
  const bool listed = o.recursive || (!one_dump && holds_containers(o.files[0]));
  if (o.files.size() == 1 && !listed) {
    return is_collection(o.files[0]) ? inspect_collection(o, o.files[0]) : inspect_file(o, o.files[0]);
  }
  if (o.why || !o.plot.empty()) throw UsageError("--why and --plot are of one file; several are listed");
  const std::vector<std::string> files = files_to_list(o.files, o.recursive);
  return o.json ? inspect_each(o, files) : list_files(files);
}

}  // namespace

void add_inspect(CLI::App& app, Action& action) {
  CLI::App* command =
      add_command(app, {"inspect", "show what a file holds and how it is coded", "kvzip inspect FILE... [OPTIONS]",
                        "  kvzip inspect cache.safetensors --layout BHTD\n"
                        "  kvzip inspect cache.kvz --json | jq .totals\n"
                        "  kvzip inspect cache.kvz --plot layers.svg --original cache.safetensors"});
  auto o = std::make_shared<InspectArguments>();
  command->add_option("FILE", o->files, "dump, container or tables (.kvzd); several are listed");
  command->add_flag("-r,--recursive", o->recursive, "folders: list all dumps and containers in them");
  command->add_flag("--json", o->json, "everything, as JSON; of several files a line each");
  command->add_flag("--why", o->why, "what every tensor was taken for, and why");
  add_text(*command, "--plot", o->plot, "FILE", "draw bits per value by layer and role: .svg or .png");
  add_text(*command, "--original", o->original, "DUMP", "and how far they are from those of this file");
  command->add_flag("-f,--force", o->common.force, "replace an existing picture");
  add_recognising(*command, o->recognising);
  add_views(*command, o->recognising);
  add_trust(*command);
  command->add_flag("-v,--verbose", o->common.verbose, "every tensor, even when there are many");
  add_progress(*command);
  command->callback([o, &action] {
    if (o->files.empty()) o->files.push_back(piped_input("FILE"));
    action = [o] { return inspect(*o); };
  });
}

}  // namespace kvzip::tool
