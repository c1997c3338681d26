// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <memory>

#include "kvzip/components.hpp"
#include "kvzip/io.hpp"
#include "kvzip/rules.hpp"
#include "src/commands.hpp"
#include "src/report/report.hpp"

namespace kvzip::tool {
namespace {

struct ListArguments {
  Common common;
  std::string what;
};

std::string components(const std::vector<ComponentDoc>& docs) {
  std::string out;
  for (const ComponentDoc& doc : docs) {
    const std::string kind = doc.kind.empty() ? "" : ", " + doc.kind;
    out += fmt::format("{}: {} (id {}{}, since format {})\n", doc.name, doc.help, doc.id, kind, doc.since);
    if (doc.fields.empty()) continue;
    Table table({"  parameter", "type", "range", "default", "meaning"});
    for (const FieldDoc& field : doc.fields) {
      table.add({"  " + field.name, field.type, field.range, field.fallback, field.help});
    }
    out += table.text();
  }
  return out;
}

std::string presets(bool with_text) {
  std::string out;
  if (with_text) {
    for (const PresetText& preset : builtin_presets()) {
      out += fmt::format("{}==> {} <==\n{}", out.empty() ? "" : "\n", preset.name, preset.text);
      if (!out.ends_with('\n')) out += '\n';
    }
    return out;
  }
  Table table({"preset", "what"});
  for (const PresetText& preset : builtin_presets()) {
    std::string name(preset.name);
    if (preset.name == kDefaultPreset) name += " (default)";
    table.add({std::move(name), std::string(preset.summary())});
  }
  return table.text();
}

std::string formats() {
  Table table({"format", "extensions", "writes", "what"});
  for (const FileFormat& format : file_formats()) {
    table.add({std::string(format.name), std::string(format.extensions),
               format.writable        ? "decompress, convert, synth"
               : format.name == "kvz" ? "compress"
                                      : "nothing",
               std::string(format.help)});
  }
  return table.text();
}

int list(const ListArguments& o) {
  const bool all = o.what.empty();
  std::string out;
  const auto section = [&](std::string_view name, auto&& text) {
    if (!all && o.what != name) return;
    if (all) out += fmt::format("{}{}\n\n", out.empty() ? "" : "\n", name);
    out += text();
  };
  section("stages", [] { return components(describe_stages()); });
  section("coders", [] { return components(describe_coders()); });
  section("presets", [&] { return presets(o.common.verbose > 0); });
  section("formats", [] { return formats(); });
  print(out);
  return kDone;
}

}  // namespace

void add_list(CLI::App& app, Action& action) {
  CLI::App* command = add_command(app, {"list", "list stages, coders, presets and file formats",
                                        "kvzip list [stages|coders|presets|formats] [OPTIONS]",
                                        "  kvzip list presets\n"
                                        "  kvzip list presets -v | less"});
  auto o = std::make_shared<ListArguments>();
  command->add_option("WHAT", o->what, "one section")->check(one_of({"stages", "coders", "presets", "formats"}));
  command->add_flag("-v,--verbose", o->common.verbose, "with presets: their texts");
  command->callback([o, &action] { action = [o] { return list(*o); }; });
}

}  // namespace kvzip::tool
