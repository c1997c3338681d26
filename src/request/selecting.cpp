// SPDX-License-Identifier: Apache-2.0
#include "src/request/selecting.hpp"

#include <algorithm>
#include <filesystem>
#include <set>
#include <utility>

#include "formats/folder.hpp"
#include "formats/join.hpp"
#include "formats/mlx_cache.hpp"
#include "formats/mlx_quantised.hpp"
#include "formats/raw.hpp"
#include "formats/token_join.hpp"
#include "formats/token_windows.hpp"
#include "kvzip/container.hpp"
#include "src/report/report.hpp"
#include "src/request/request.hpp"

namespace kvzip::tool {

Selection Selecting::selection() const {
  // Each by itself, so that an error names the one that is wrong.
  as_typed("--layers", [&] { parse_selection(layers, {}, {}); });
  as_typed("--tokens", [&] { parse_selection({}, tokens, {}); });
  return as_typed("--role", [&] { return parse_selection(layers, tokens, role); });
}

namespace {

Identity identity_of(DumpReader& reader) {
  const KvzReader* container = reader.traits().container;
  return kvzip::identity_of(reader.dump(), container != nullptr ? container->description().user : KeyValues());
}

}  // namespace

void require_belonging(DumpReader& a, DumpReader& b, Belonging what, bool mix) {
  if (mix) return;
  std::string text = differing_text(identity_of(a), identity_of(b), what);
  if (text.empty() && what == Belonging::cache && other_token_ids(a, b)) text = "token ids";
  if (!text.empty())
    fail(ErrorCode::invalid_argument, "not of the same cache: they differ in {} (--mix goes on)", text);
}

void require_file(DumpReader& reader, std::string_view who) {
  if (!reader.traits().once) return;
  throw UsageError(fmt::format("{} reads a container more than once: give it as a file, not from a pipe", who));
}

DumpReader& form_in(const Dump& other, DumpReader& reader) {
  DumpReader* stored = stored_blocks(reader);
  if (stored == nullptr) return reader;
  std::set<std::string_view> names;
  for (const TensorInfo& info : other.tensors) names.insert(info.name);
  const auto all_in = [&](const Dump& dump) {
    return std::ranges::all_of(dump.tensors, [&](const TensorInfo& info) { return names.contains(info.name); });
  };
  return !all_in(reader.dump()) && all_in(stored->dump()) ? *stored : reader;
}

void note_quantised(DumpReader& reader) {
  for (const std::string& line : mlx_quantised_lines(reader)) note(line);
}

namespace {

std::unique_ptr<DumpReader> open_dump(const std::string& path, const std::string& raw) {
  if (raw.empty()) return open_reader(path);
  const RawLayout layout = as_typed("--raw", [&] { return parse_raw(raw); });
  const std::uint64_t most = as_typed("--raw", [&] { return bytes_of(layout).value_or(kUnbounded); });
  return open_raw(path == "-" ? InputFile::spool_stdin(most) : InputFile(path, [&](InputStream&) { return most; }),
                  layout);
}

/// In place of folders their files.
std::vector<std::string> chunk_files(const std::vector<std::string>& paths, bool bare) {
  std::vector<std::string> out;
  std::error_code ignored;
  for (const std::string& path : paths) {
    const bool folder = path != "-" && std::filesystem::is_directory(path, ignored);
    for (std::string& one : folder ? chunks_in_folder(path, bare) : std::vector{path}) out.push_back(std::move(one));
  }
  return out;
}

std::unique_ptr<DumpReader> open_chunks(const std::vector<std::string>& paths, bool mix, const Recognising& as) {
  std::vector<JoinInput> inputs;
  for (const std::string& path : chunk_files(paths, !as.raw.empty())) {
    inputs.push_back({input_name(path), with_file(path, [&] { return viewed(open_dump(path, as.raw), as); })});
    with_file(path, [&] { require_belonging(*inputs[0].reader, *inputs.back().reader, Belonging::model, mix); });
  }
  return join_tokens(std::move(inputs), recognise_options(as), mix);
}

}  // namespace

std::unique_ptr<DumpReader> open_inputs(const std::vector<std::string>& paths, bool mix, const Recognising& as) {
  if (as.by_tokens) return open_chunks(paths, mix, as);
  std::vector<JoinInput> inputs;
  for (const std::string& path : paths) {
    inputs.push_back({input_name(path), with_file(path, [&] { return open_dump(path, as.raw); })});
  }
  for (std::size_t i = 1; i < inputs.size(); ++i) {
    with_file(paths[i], [&] { require_belonging(*inputs[0].reader, *inputs[i].reader, Belonging::cache, mix); });
  }
  return viewed(join(std::move(inputs), mix), as);
}

std::unique_ptr<DumpReader> select_saying(std::unique_ptr<DumpReader> reader, const Recognition& recognition,
                                          const Selection& selection, bool say) {
  if (!say) return select_positions(std::move(reader), recognition, selection);
  note_quantised(*reader);
  if (selection.tokens || selection.last_tokens) {
    const RowPlaces places = row_places(*reader, recognition);
    const std::string windows = windows_text(places, recognition, *resolved(selection, places).tokens);
    if (!windows.empty()) note(windows);
  }
  const bool mlx = MlxCache(reader->dump()).present();
  const std::size_t all = reader->dump().tensors.size();
  auto part = select_positions(std::move(reader), recognition, selection);
  const std::size_t left = part->dump().tensors.size();
  if (mlx && left < all) {
    note(fmt::format("{} of {} arrays of a prompt cache of MLX: mlx-lm cannot go on from them", left, all));
  }
  return part;
}

std::unique_ptr<DumpReader> open_selected(const std::vector<std::string>& paths, const Selecting& selecting,
                                          Recognising recognising, const std::vector<Role>& roles,
                                          const KeyValues& meta) {
  Selection selection = selecting.selection();
  if (selection.roles.empty() && !roles.empty()) {
    selection.roles = roles;
    recognising.some = true;
  }
  auto reader = open_inputs(paths, selecting.mix, recognising);
  const Recognition recognition = recognise_input(*reader, recognising, meta);
  return select_saying(std::move(reader), recognition, selection, recognising.say);
}

}  // namespace kvzip::tool
