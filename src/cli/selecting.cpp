// SPDX-License-Identifier: Apache-2.0
#include "src/cli/selecting.hpp"

namespace kvzip::tool {

Selection Selecting::selection() const {
  return as_typed("--layers, --tokens, --role", [&] { return parse_selection(layers, tokens, role); });
}

void add_selecting(CLI::App& app, Selecting& selecting, const std::string& roles) {
  add_text(app, "--layers", selecting.layers, "A-B", "only these layers");
  add_text(app, "--tokens", selecting.tokens, "A:B", "only tokens A to B - 1");
  add_text(app, "--role", selecting.role, "ROLE", roles);
}

std::unique_ptr<DumpReader> open_selected(const std::string& path, const Selecting& selecting, Recognising recognising,
                                          const std::vector<Role>& roles, const KeyValues& meta) {
  Selection selection = selecting.selection();
  if (selection.roles.empty() && !roles.empty()) {
    selection.roles = roles;
    recognising.strict = true;
  }
  auto reader = open_reader(path);
  const Recognition recognition = recognise_input(*reader, recognising, meta);
  return select(std::move(reader), recognition, selection);
}

}  // namespace kvzip::tool
