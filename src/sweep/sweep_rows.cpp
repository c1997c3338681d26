// SPDX-License-Identifier: Apache-2.0
#include "src/sweep/sweep_rows.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "codec/fail.hpp"
#include "codec/limits.hpp"
#include "formats/collection.hpp"
#include "formats/file.hpp"
#include "formats/kvz/kvz_records.hpp"
#include "src/report/report.hpp"
#include "src/request/request.hpp"

namespace kvzip::tool {
namespace {

namespace fs = std::filesystem;

/// A file as make(1) knows it: where it is, how long, and when it changed.
std::string stamp(const std::string& path) {
  if (path.empty()) return path;
  std::error_code missing;
  const std::string file = collection_of(path).value_or(path);
  const auto changed = fs::last_write_time(file, missing).time_since_epoch().count();
  const auto size = fs::file_size(file, missing);
  return fmt::format("{} {} {}", fs::absolute(path).lexically_normal().string(), size, changed);
}

struct TwoPipelines {
  std::string key, value;
};
/// --key and --value, where the rules are one pipeline for all keys and one for all values.
std::optional<TwoPipelines> two_pipelines(const RuleSet& rules) {
  auto [key, value] = TwoPipelines{};
  for (const Rule& rule : rules.rules) {
    if (!rule.any_layer || rule.scope != Rule::Scope::tensor || rule.layers_min != 0 ||
        rule.layers_max != Rule{}.layers_max) {
      return {};
    }
    if (rule.role == Role::key && key.empty()) key = rule.pipeline;
    if (rule.role == Role::value && value.empty()) value = rule.pipeline;
  }
  if (key.empty() || value.empty()) return {};
  return TwoPipelines{key, value};
}

/// A row's file ends with a line of this and the checksum.
constexpr std::string_view kChecksum = "xxh3 ";

std::string checksum_line(std::string_view basis, std::string_view row) {
  std::string all(basis);
  all += row;
  return fmt::format("{}{:016x}\n", kChecksum, hash64(std::as_bytes(std::span(all))));
}

/// What a row's file holds; nothing where there is none. Links are not followed and pipes not waited for: the folder
/// may be one that others write to.
std::optional<std::string> row_text(const std::string& path) {
  FileDescriptor fd(::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (fd.get() < 0 && errno == ENOENT) return {};
  if (fd.get() < 0 && errno != ELOOP) fail_in(path, ErrorCode::io, "cannot open: {}", std::strerror(errno));
  struct stat status {};
  if (fd.get() < 0 || ::fstat(fd.get(), &status) != 0 || !S_ISREG(status.st_mode)) {
    fail_in(path, ErrorCode::io, "is no file of a row, but a link, folder, pipe or device: remove it");
  }
  const InputFile file(std::move(fd), path);
  if (file.size() > limits::kSweepRow) return std::string();  // no row: not what its checksum is of
  std::string text(file.size(), '\0');
  file.read_at(0, std::as_writable_bytes(std::span(text)));
  return text;
}

/// The row, where the last line is its checksum.
std::optional<std::string_view> checked_row(std::string_view basis, std::string_view text) {
  const std::size_t at = text.rfind(kChecksum);
  if (at == text.npos || text.substr(at) != checksum_line(basis, text.substr(0, at))) return {};
  return text.substr(0, at);
}

}  // namespace

RowStore::RowStore(const std::string& path, const SweepRequest& request, const Recipe& recipe) {
  if (request.resume.empty() || path == "-" || request.fidelity.queries == "-" || request.fidelity.queries2 == "-") {
    return;
  }
  const FidelityOptions& f = request.fidelity;
  basis_ = KVZIP_VERSION "\n";
  // The command holds the selection, the chunks and how tensors are recognised.
  for (const std::string& part : {stamp(path), recipe.command, recipe.options.rules.name, recipe.options.rules.text(),
                                  stamp(f.queries), stamp(f.queries2)}) {
    basis_ += part + "\n";
  }
  basis_ += fmt::format("{} {} {} {} {}\n", f.split ? std::to_string(*f.split) : "", f.queries_per_head, f.top_k,
                        f.scale, f.proxies);
  file_ = fmt::format("{}/{:016x}.json", request.resume, hash64(std::as_bytes(std::span(basis_))));
}

std::optional<Sweep> RowStore::load() const {
  if (file_.empty()) return {};
  const std::optional<std::string> text = row_text(file_);
  if (!text) return {};
  if (const auto row = checked_row(basis_, *text)) {
    try {
      Sweep sweep = read_sweep(*row);
      if (sweep.dumps.size() == 1 && sweep.dumps[0].settings.size() == 1) return sweep;
    } catch (const Error&) {
      // Written so by another build of the same version.
    }
  }
  complain(fmt::format("{}: damaged or changed: this row is measured again", file_));
  return {};
}

void RowStore::save(const SweepDump& dump, const SettingResult& row) const {
  if (file_.empty()) return;
  SweepDump one = dump;
  one.settings = {row};
  const std::string text = sweep_json({KVZIP_VERSION, {}, {}, {std::move(one)}}).dump() + "\n";
  const std::string check = checksum_line(basis_, text);
  OutputFile out(file_, true);
  out.append(std::as_bytes(std::span(text)));
  out.append(std::as_bytes(std::span(check)));
  out.finish();
}

Recipe recipe_of(const std::string& path, const SweepRequest& request, const Setting& setting) {
  Recipe out;
  std::string& command = out.command;
  RuleSet& rules = out.options.rules;
  const Selecting& part = request.selecting;
  command = fmt::format("kvzip compress {} -o OUT.kvz --role {}", shell_word(path),
                        part.role.empty() ? "key,value" : shell_word(part.role));
  if (!part.layers.empty()) command += " --layers " + shell_word(part.layers);
  if (!part.tokens.empty()) command += " --tokens " + shell_word(part.tokens);
  std::string chunk = request.chunk_tokens;
  rules = setting.rules;
  if (!setting.preset.empty()) {
    command += " --preset " + shell_word(setting.preset);
  } else if (const auto pipelines = two_pipelines(setting.rules); pipelines && !setting.rules.restart) {
    rules = load_rules(std::string(kDefaultPreset), pipelines->key, pipelines->value);
    command += fmt::format(" --key {} --value {}", shell_word(pipelines->key), shell_word(pipelines->value));
    if (chunk.empty() && setting.rules.chunk_tokens) {
      chunk = *setting.rules.chunk_tokens == 0 ? "all" : std::to_string(*setting.rules.chunk_tokens);
    }
  } else {
    rules.name = "RULES.txt";  // the row's rules, saved under this name
    command += " --preset ./" + rules.name;
  }
  if (!chunk.empty()) command += " --chunk-tokens " + chunk;
  out.options.chunk_tokens = parse_chunk_tokens(chunk);
  if (!request.recognising.layout.empty()) command += " --layout " + shell_word(request.recognising.layout);
  for (const std::string& rule : request.recognising.map) command += " --map " + shell_word(rule);
  return out;
}

}  // namespace kvzip::tool
