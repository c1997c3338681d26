// SPDX-License-Identifier: Apache-2.0
#include "src/request/selecting.hpp"

#include <utility>

#include "formats/join.hpp"
#include "formats/token_windows.hpp"
#include "src/report/report.hpp"
#include "src/request/request.hpp"

namespace kvzip::tool {

Selection Selecting::selection() const {
  // Each by itself, so that an error names the one that is wrong.
  as_typed("--layers", [&] { parse_selection(layers, {}, {}); });
  as_typed("--tokens", [&] { parse_selection({}, tokens, {}); });
  return as_typed("--role", [&] { return parse_selection(layers, tokens, role); });
}

std::unique_ptr<DumpReader> open_inputs(const std::vector<std::string>& paths) {
  std::vector<JoinInput> inputs;
  for (const std::string& path : paths) {
    inputs.push_back({input_name(path), with_file(path, [&] { return open_reader(path); })});
  }
  return join(std::move(inputs));
}

std::string selection_note(const Dump& dump, const Recognition& recognition, const Selection& selection) {
  const Selection found = resolved(selection, dump, recognition);
  return found.tokens ? windows_text(dump, recognition, *found.tokens) : std::string();
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
