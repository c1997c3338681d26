// SPDX-License-Identifier: Apache-2.0
#include "src/cli/selecting.hpp"

#include <utility>

#include "formats/join.hpp"
#include "formats/token_windows.hpp"
#include "src/report/report.hpp"

namespace kvzip::tool {

Selection Selecting::selection() const {
  return as_typed("--layers, --tokens, --role", [&] { return parse_selection(layers, tokens, role); });
}

void add_selecting(CLI::App& app, Selecting& selecting, const std::string& roles) {
  add_text(app, "--layers", selecting.layers, "A-B", "only these layers");
  add_text(app, "--tokens", selecting.tokens, "A:B", "only tokens A to B - 1");
  add_text(app, "--role", selecting.role, "ROLE", roles);
}

std::unique_ptr<DumpReader> open_inputs(const std::vector<std::string>& paths) {
  std::vector<JoinInput> inputs;
  for (const std::string& path : paths) {
    inputs.push_back({input_name(path), with_file(path, [&] { return open_reader(path); })});
  }
  return join(std::move(inputs));
}

std::string selection_note(const Dump& dump, const Recognition& recognition, const Selection& selection) {
  return selection.tokens ? windows_text(dump, recognition, *selection.tokens) : std::string();
}

std::unique_ptr<DumpReader> open_selected(const std::vector<std::string>& paths, const Selecting& selecting,
                                          Recognising recognising, const std::vector<Role>& roles,
                                          const KeyValues& meta) {
  Selection selection = selecting.selection();
  if (selection.roles.empty() && !roles.empty()) {
    selection.roles = roles;
    recognising.some = true;
  }
  auto reader = open_inputs(paths);
  const Recognition recognition = recognise_input(*reader, recognising, meta);
  const std::string said = selection_note(reader->dump(), recognition, selection);
  if (recognising.say && !said.empty()) note(said);
  return select(std::move(reader), recognition, selection);
}

}  // namespace kvzip::tool
