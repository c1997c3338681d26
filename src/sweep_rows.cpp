// SPDX-License-Identifier: Apache-2.0
#include "sweep_rows.hpp"

#include <filesystem>
#include <fstream>
#include <iterator>

#include "formats/file.hpp"
#include "formats/kvz_records.hpp"
#include "kvzip/error.hpp"

namespace kvzip::tool {
namespace {

namespace fs = std::filesystem;

/// A file as make(1) knows it: where it is, how long, and when it changed.
std::string stamp(const std::string& path) {
  if (path.empty() || path == "-") return path;
  std::error_code missing;
  const auto changed = fs::last_write_time(path, missing).time_since_epoch().count();
  const auto size = fs::file_size(path, missing);
  return fmt::format("{} {} {}", fs::absolute(path).lexically_normal().string(), size, changed);
}

/// --key and --value, where the rules are one pipeline for all keys and one for all values.
std::optional<std::string> two_pipelines(const RuleSet& rules) {
  std::string key, value;
  for (const Rule& rule : rules.rules) {
    if (!rule.any_layer || rule.scope != Rule::Scope::tensor || rule.layers_min != 0 ||
        rule.layers_max != Rule{}.layers_max) {
      return {};
    }
    if (rule.role == Role::key && key.empty()) key = rule.pipeline;
    if (rule.role == Role::value && value.empty()) value = rule.pipeline;
  }
  if (key.empty() || value.empty()) return {};
  return fmt::format(" --key {} --value {}", shell_word(key), shell_word(value));
}

}  // namespace

RowStore::RowStore(const std::string& path, const SweepRequest& request, const Setting& setting) {
  if (request.resume.empty()) return;
  const FidelityOptions& f = request.fidelity;
  std::string all = KVZIP_VERSION "\n";
  for (const std::string& part : {stamp(path), setting.name, setting.rules.text(), request.chunk_tokens,
                                  request.selecting.layers, request.selecting.tokens, request.selecting.role,
                                  request.recognising.layout, stamp(f.queries), stamp(f.queries2)}) {
    all += part + "\n";
  }
  for (const std::string& rule : request.recognising.map) all += rule + "\n";
  all += fmt::format("{} {} {} {} {}", f.split ? std::to_string(*f.split) : "", f.queries_per_head, f.top_k, f.scale,
                     f.proxies);
  file_ = fmt::format("{}/{:016x}.json", request.resume, hash64(std::as_bytes(std::span(all))));
}

std::optional<Sweep> RowStore::load() const {
  if (file_.empty()) return {};
  std::ifstream in(file_, std::ios::binary);
  if (!in) return {};
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  try {
    Sweep sweep = read_sweep(text);
    if (sweep.dumps.size() == 1 && sweep.dumps[0].settings.size() == 1) return sweep;
  } catch (const Error&) {
    // Measured again, and written anew.
  }
  return {};
}

void RowStore::save(const SweepDump& dump, const SettingResult& row) const {
  if (file_.empty()) return;
  std::error_code ignored;
  fs::create_directories(fs::path(file_).parent_path(), ignored);
  SweepDump one = dump;
  one.settings = {row};
  const std::string text = sweep_json({KVZIP_VERSION, {}, {}, {std::move(one)}}).dump() + "\n";
  OutputFile out(file_, true);
  out.append(std::as_bytes(std::span(text)));
  out.finish();
}

std::string compress_command(const std::string& path, const SweepRequest& request, const Setting& setting) {
  std::string out = fmt::format("kvzip compress {} -o OUT.kvz --role key,value", shell_word(path));
  if (!request.selecting.layers.empty()) out += " --layers " + request.selecting.layers;
  if (!request.selecting.tokens.empty()) out += " --tokens " + request.selecting.tokens;
  std::string chunk = request.chunk_tokens;
  if (setting.kind == "preset") {
    out += " --preset " + setting.name;
  } else if (const auto pipelines = two_pipelines(setting.rules)) {
    out += *pipelines;
    if (chunk.empty() && setting.rules.chunk_tokens) {
      chunk = *setting.rules.chunk_tokens == 0 ? "all" : std::to_string(*setting.rules.chunk_tokens);
    }
  } else {
    out += " --preset ./RULES.txt";  // the row's rules, saved under this name
  }
  if (!chunk.empty()) out += " --chunk-tokens " + chunk;
  if (!request.recognising.layout.empty()) out += " --layout " + shell_word(request.recognising.layout);
  for (const std::string& rule : request.recognising.map) out += " --map " + shell_word(rule);
  return out;
}

}  // namespace kvzip::tool
