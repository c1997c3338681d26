// SPDX-License-Identifier: Apache-2.0
#include "formats/sidecar.hpp"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>
#include <system_error>
#include <utility>

#include "codec/fail.hpp"
#include "codec/limits.hpp"
#include "formats/file.hpp"
#include "formats/json_limits.hpp"
#include "formats/text.hpp"

namespace kvzip {
namespace {

constexpr std::string_view kExpected =
    "expected an object of \"raw\" (ROLE:AXES:TYPE:EXTENTS), \"files\" (names in their order) and \"metadata\" (texts)";

std::vector<std::string> names_of(const nlohmann::json& list) {
  if (!list.is_array() || list.empty()) fail(ErrorCode::corrupt, "\"files\" is no list of names");
  std::vector<std::string> out;
  std::set<std::string> seen;
  for (const nlohmann::json& item : list) {
    if (!item.is_string()) fail(ErrorCode::corrupt, "\"files\" is no list of names");
    std::string name = item.get<std::string>();
    const bool plain = !name.empty() && name.find_first_of(std::string_view("/\0", 2)) == name.npos;
    if (!plain || name == "." || name == "..") {
      fail(ErrorCode::corrupt, "{} in \"files\" is not the name of a file in this folder", quoted(name));
    }
    if (!seen.insert(name).second) fail(ErrorCode::corrupt, "{} is twice in \"files\"", quoted(name));
    out.push_back(std::move(name));
  }
  return out;
}

std::vector<Attribute> metadata_of(const nlohmann::json& object) {
  if (!object.is_object()) fail(ErrorCode::corrupt, "\"metadata\" is no object of texts");
  std::vector<Attribute> out;
  for (const auto& [name, value] : object.items()) {
    if (name.empty() || !value.is_string()) fail(ErrorCode::corrupt, "\"metadata\" is no object of texts");
    // The layout says the axes.
    if (name == "axes") fail(ErrorCode::corrupt, "\"axes\" are said by \"raw\", and not by \"metadata\"");
    out.push_back({"", name, {value.get<std::string>()}, {}, {}, {}});
  }
  return out;
}

std::optional<Sidecar> read_sidecar(const std::string& path) {
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(path, ignored)) return std::nullopt;
  return in_file(path, [&] {
    const InputFile file(path);
    if (file.size() > limits::kSidecar)
      fail(ErrorCode::limit, "more than {} bytes of what files do not say", limits::kSidecar);
    std::string text(file.size(), '\0');
    file.read_at(0, std::as_writable_bytes(std::span(text)));
    return std::optional(parse_sidecar(text));
  });
}

}  // namespace

Sidecar parse_sidecar(std::string_view text) {
  check_json(text, "what files do not say");
  const nlohmann::json object = nlohmann::json::parse(text, nullptr, false);
  if (!object.is_object()) fail(ErrorCode::corrupt, "{}", kExpected);
  Sidecar out;
  for (const auto& [name, value] : object.items()) {
    if (name == "raw" && value.is_string()) {
      out.raw = parse_raw(value.get<std::string>());
    } else if (name == "files") {
      out.files = names_of(value);
    } else if (name == "metadata") {
      out.attributes = metadata_of(value);
    } else {
      fail(ErrorCode::corrupt, "{}: {}", quoted(name), kExpected);
    }
  }
  return out;
}

std::optional<Sidecar> sidecar_of_folder(const std::string& folder) {
  return read_sidecar(folder + "/" + std::string(kFolderSidecar));
}

std::optional<Sidecar> sidecar_of_file(const std::string& path) {
  if (auto own = read_sidecar(path + std::string(kFileSidecar))) return own;
  const std::size_t slash = path.rfind('/');
  return sidecar_of_folder(slash == path.npos ? "." : path.substr(0, slash + 1));
}

}  // namespace kvzip
