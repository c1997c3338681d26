// SPDX-License-Identifier: Apache-2.0
#include "formats/folder.hpp"

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

#include "codec/fail.hpp"
#include "formats/join.hpp"
#include "formats/sidecar.hpp"
#include "formats/token_join.hpp"

namespace kvzip {
namespace {

namespace fs = std::filesystem;

bool is_number(char c) {
  return c >= '0' && c <= '9';
}

/// The run of digits that `text` begins with, without zeros in front, taken from it.
std::string_view take_number(std::string_view& text) {
  const std::size_t length = std::min(text.find_first_not_of("0123456789"), text.size());
  std::string_view number = text.substr(0, length);
  text.remove_prefix(length);
  number.remove_prefix(std::min(number.find_first_not_of('0'), number.size()));
  return number;
}

}  // namespace

bool numbers_ascend(std::string_view a, std::string_view b) {
  const std::string_view left = a, right = b;
  while (!a.empty() && !b.empty()) {
    if (is_number(a[0]) && is_number(b[0])) {
      const std::string_view m = take_number(a), n = take_number(b);
      if (m.size() != n.size()) return m.size() < n.size();
      if (m != n) return m < n;
    } else {
      if (a[0] != b[0]) return a[0] < b[0];
      a.remove_prefix(1);
      b.remove_prefix(1);
    }
  }
  return a.empty() != b.empty() ? a.empty() : left < right;
}

namespace {

/// Those that `wanted` takes by their names, but for hidden ones.
template <typename F>
std::vector<std::string> files_in_folder(const std::string& path, F&& wanted) {
  std::vector<std::string> out;
  std::error_code error, ignored;
  for (fs::directory_iterator at(path, error), end; !error && at != end; at.increment(error)) {
    const std::string name = at->path().filename().string();
    if (name.starts_with('.') || !wanted(name) || !at->is_regular_file(ignored)) continue;
    out.push_back(at->path().string());
  }
  if (error) fail_in(path, ErrorCode::io, "cannot read this folder: {}", error.message());
  std::ranges::sort(out, numbers_ascend);
  return out;
}

[[noreturn]] void fail_none(const std::string& path) {
  fail_in(path, ErrorCode::invalid_argument, "no file in this folder is called like a dump");
}

}  // namespace

std::vector<std::string> dumps_in_folder(const std::string& path) {
  return files_in_folder(path, [](const std::string& name) {
    const std::string_view format = format_of_path(name);
    return !format.empty() && format != "kvz";
  });
}

std::vector<std::string> chunks_in_folder(const std::string& path, bool bare) {
  const auto told = sidecar_of_folder(path);
  std::vector<std::string> out;
  if (told) {
    for (const std::string& name : told->files) out.push_back((fs::path(path) / name).string());
  }
  if (!out.empty()) return out;
  bare = bare || (told && told->raw);
  out = bare ? files_in_folder(path, [](const std::string& name) { return !name.ends_with(".json"); })
             : dumps_in_folder(path);
  if (out.empty()) fail_none(path);
  return in_file(path, [&] { return in_order_of_names(std::move(out)); });
}

std::unique_ptr<DumpReader> open_folder(const std::string& path) {
  const auto told = sidecar_of_folder(path);
  const bool along_tokens = told && (told->raw || !told->files.empty());
  std::vector<JoinInput> inputs;
  for (const std::string& file : along_tokens ? chunks_in_folder(path, false) : dumps_in_folder(path)) {
    inputs.push_back({file, open_reader(file)});
  }
  if (inputs.empty()) fail_none(path);
  return in_file(path, [&] { return along_tokens ? join_tokens(std::move(inputs)) : join(std::move(inputs)); });
}

}  // namespace kvzip
