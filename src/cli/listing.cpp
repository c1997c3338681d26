// SPDX-License-Identifier: Apache-2.0
#include "src/cli/listing.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "codec/fail.hpp"
#include "formats/collection.hpp"
#include "formats/file.hpp"
#include "formats/folder.hpp"
#include "formats/kvz/kvz.hpp"
#include "kvzip/io.hpp"
#include "src/cli/batch.hpp"
#include "src/report/progress.hpp"
#include "src/report/report.hpp"

namespace kvzip::tool {
namespace {

bool is_container_name(const std::string& path) {
  return format_of_path(path) == "kvz" || is_collection_name(path);
}

/// Those in the folder itself that are not hidden, by numbers in their names.
std::vector<std::string> files_in(const std::string& folder) {
  std::vector<std::string> out;
  std::error_code error, ignored;
  for (std::filesystem::directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) {
    const std::string name = at->path().filename().string();
    if (name.starts_with('.') || !at->is_regular_file(ignored)) continue;
    const std::string path = at->path().string();
    if (is_container_name(path) || !format_of_path(path).empty()) out.push_back(path);
  }
  if (error) fail_in(folder, ErrorCode::io, "cannot read this folder: {}", error.message());
  std::ranges::sort(out, numbers_ascend);
  return out;
}

Listed listed(const std::string& file) {
  return with_file(file, [&] {
    const auto reader = open_shown(file, [&] { return open_reader(file); });
    Listed out;
    DumpReader* blocks = stored_blocks(*reader);
    const Dump& stored = blocks != nullptr ? blocks->dump() : reader->dump();
    out.tensors = stored.tensors.size();
    for (const TensorInfo& info : stored.tensors) out.source += info.bytes();
    out.bytes = stored_bytes(file).value_or(reader->traits().once ? 0 : out.source);
    if (KvzReader* kvz = reader->traits().container) {
      out.preset = kvz->description().preset;
      out.base = kvz->description().base;
    }
    return out;
  });
}

}  // namespace

void read_out(DumpReader& reader) {
  for (std::uint64_t i = 0; reader.traits().once && i < reader.part_count(); ++i) {
    Part part = reader.part(i);
    reader.fetch(part);
  }
}

std::unique_ptr<DumpReader> open_shown(const std::string& file,
                                       const std::function<std::unique_ptr<DumpReader>()>& open) {
  try {
    return open();
  } catch (const Error& error) {
    if (!stored_bytes(file) || is_collection(file)) throw;
    std::unique_ptr<KvzReader> own;
    if (failure_of([&] { own = open_kvz_own(file); }) || !own->description().base) throw;
    note(fmt::format("{}: {}; shown are the tokens that it holds itself", input_name(file), error.what()));
    return own;
  }
}

bool holds_containers(const std::string& folder) {
  std::error_code ignored;
  if (!std::filesystem::is_directory(folder, ignored)) return false;
  return std::ranges::any_of(files_in(folder), is_container_name);
}

std::vector<std::string> files_to_list(const std::vector<std::string>& paths, bool recursive) {
  Batch batch;
  batch.members = true;
  batch.recursive = recursive;
  batch.joins = !recursive;  // else a folder is one dump
  for (const std::string& path : paths) {
    const std::vector<std::string> some =
        !recursive && holds_containers(path) ? files_in(path) : std::vector<std::string>{path};
    batch.in.insert(batch.in.end(), some.begin(), some.end());
  }
  std::vector<std::string> out;
  for (const BatchFile& file :
       batch_files(batch, [](std::string_view path) { return !format_of_path(path).empty(); })) {
    out.push_back(file.in);
  }
  return out;
}

std::vector<std::string> row_of(const std::string& name, const Listed& one) {
  return {printable(name),
          std::to_string(one.tensors),
          size_text(one.source),
          one.bytes > 0 ? size_text(one.bytes) : "-",
          number_text(ratio_of(one.source, one.bytes)),
          one.preset.empty() ? "-" : printable(one.preset)};
}

int list_each(const std::vector<std::string>& files,
              const std::function<void(const std::string&, const Listed&)>& add) {
  if (files.size() > 1) give_up_silent_pipes();
  int worst = kDone;
  for (const std::string& file : files) {
    const auto failure = failure_of([&] { add(file, listed(file)); });
    if (!failure) continue;
    complain(failure->text);
    worst = std::max(worst, failure->status);
  }
  return worst;
}

int list_files(const std::vector<std::string>& files) {
  Table table({"file", ">tensors", ">source", ">file bytes", ">ratio", "preset"});
  const int worst =
      list_each(files, [&](const std::string& file, const Listed& one) { table.add(row_of(input_name(file), one)); });
  if (!table.empty()) print(table.text());
  return worst;
}

}  // namespace kvzip::tool
