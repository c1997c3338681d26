// SPDX-License-Identifier: Apache-2.0
#include "src/cli/options.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>

#include "codec/fail.hpp"
#include "codec/number.hpp"
#include "formats/file.hpp"
#include "formats/hdf5/hdf5.hpp"
#include "kvzip/trust.hpp"
#include "src/cli/memory_limit.hpp"
#include "src/report/report.hpp"

namespace kvzip::tool {
namespace {

/// A page that shows the synopsis as the project writes it, the options, and nothing that the synopsis says already.
class PageFormatter : public CLI::Formatter {
 public:
  explicit PageFormatter(std::string synopsis) : synopsis_(std::move(synopsis)) { column_width(27); }
  std::string make_usage(const CLI::App*, std::string) const override { return fmt::format("Usage: {}\n", synopsis_); }
  std::string make_positionals(const CLI::App*) const override { return {}; }

 private:
  std::string synopsis_;
};

}  // namespace

ExitStatus exit_status(ErrorCode code) {
  switch (code) {
    case ErrorCode::corrupt:
    case ErrorCode::truncated:
      return kCorrupt;
    case ErrorCode::unsupported:
      return kUnsupported;
    case ErrorCode::io:
      return kIo;
    case ErrorCode::invalid_argument:
    case ErrorCode::limit:
      return kError;
  }
  return kError;
}

std::string& command_line() {
  static std::string text;
  return text;
}

std::string shell_word(const std::string& text) {
  constexpr std::string_view kPlain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/:=,%+@";
  if (!text.empty() && text.find_first_not_of(kPlain) == std::string::npos) return text;
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

std::string piped_input(const std::string& missing) {
  struct stat status {};
  const bool there = ::fstat(STDIN_FILENO, &status) == 0;
  if (there && (S_ISFIFO(status.st_mode) || S_ISREG(status.st_mode) || S_ISSOCK(status.st_mode))) return "-";
  throw CLI::RequiredError(missing);
}

std::string input_name(const std::string& path) {
  return path == "-" ? "standard input" : path;
}

std::string advice(Hint hint, const std::string& detail) {
  switch (hint) {
    case Hint::layout:
      return "--layout settles it";
    case Hint::map:
      return "--map can give its role";
    case Hint::layout_or_map:
      return "--layout or --map says what it is";
    case Hint::metadata:
      return fmt::format("--meta {} gives it", detail);
    case Hint::chunk_tokens:
      return "--chunk-tokens makes it smaller";
    case Hint::overwrite:
      return "-f overwrites it";
    case Hint::none:
      break;
  }
  return {};
}

std::string why_text(const TensorInfo& tensor, const TensorRole& role) {
  std::vector<std::string> options;
  for (const Axes& axes : role.readings) options.push_back(fmt::format("--layout {}", axes.text()));
  if (options.size() == 1) {
    options.push_back(fmt::format("--map {}=other", shell_word(printable(tensor.name))));
  }
  const std::string help =
      options.empty() ? advice(role.hint) : fmt::format("{} settles it", fmt::join(options, " or "));
  return help.empty() ? role.why : fmt::format("{}: {}", role.why, help);
}

std::string unrecognised_text(const Dump& dump, const Recognition& recognition) {
  std::size_t floats = 0, open = 0;
  std::map<std::string_view, std::vector<std::size_t>> reasons;
  for (std::size_t i = 0; i < dump.tensors.size(); ++i) {
    const TensorInfo& tensor = dump.tensors[i];
    const TensorRole& role = recognition.tensors[i];
    const bool empty = std::find(tensor.shape.begin(), tensor.shape.end(), 0u) != tensor.shape.end();
    if (!is_codable_float(tensor.dtype) || empty) continue;
    ++floats;
    if (role.role != Role::other || role.asked) continue;
    ++open;
    reasons[role.why].push_back(i);
  }
  if (open == 0) return {};
  const auto most = std::max_element(reasons.begin(), reasons.end(),
                                     [](const auto& a, const auto& b) { return a.second.size() < b.second.size(); });
  const std::size_t first = most->second[0];
  std::string out =
      fmt::format("{} of {} float tensors stay lossless, as '{}': {}", open, floats,
                  printable(dump.tensors[first].name), why_text(dump.tensors[first], recognition.tensors[first]));
  if (reasons.size() > 1) out += fmt::format("; {} for other reasons", open - most->second.size());
  return out + "; 'kvzip inspect --why' shows all";
}

std::string left_out_text(const DumpReader& reader) {
  constexpr std::size_t kShown = 8;
  std::vector<std::string> what = hdf5_left_out(reader);
  if (what.empty()) return {};
  const std::size_t more = what.size() - std::min(what.size(), kShown);
  what.resize(what.size() - more);
  return fmt::format("left out: {}{}", fmt::join(what, "; "), more == 0 ? "" : fmt::format("; and {} more", more));
}

void note_losses(std::string_view format, const Dump& dump, const std::string& path) {
  const std::vector<std::string> what = format_losses(format, dump, path);
  if (!what.empty()) note(fmt::format("{}: {} files have no place for {}", path, format, fmt::join(what, ", ")));
}

std::string error_text(const Error& error) {
  const std::string help = advice(error.hint(), error.hint_detail());
  return help.empty() ? error.what() : fmt::format("{} ({})", error.what(), help);
}

CLI::App* add_command(CLI::App& app, const Page& page) {
  CLI::App* command = app.add_subcommand(page.name, page.description);
  command->group("Commands");
  command->formatter(std::make_shared<PageFormatter>(page.synopsis));
  command->footer("Examples:\n" + page.examples);
  command->set_help_flag("-h,--help", "show this help");
  const auto limit = [](const std::string& text) {
    const auto bytes = parse_memory(text);
    if (!bytes) throw CLI::ValidationError("--memlimit", text + ": expected 8M or more, as 512M, 4GiB, 50% or none");
    limit_memory(*bytes);
  };
  command->add_option_function<std::string>("--memlimit", limit, "memory to take at most (default: the machine's)")
      ->option_text("SIZE");
  return command;
}

void add_verbosity(CLI::App& app, Common& common) {
  app.add_flag("-q,--quiet", common.quiet, "say nothing but errors");
  app.add_flag("-v,--verbose", common.verbose, "say more");
}

void add_trust(CLI::App& app) {
  app.add_flag_function(
      "--trust", [](std::int64_t) { trust_files(true); }, "decode what asks for more than its size allows");
}

void add_threads(CLI::App& app, Common& common) {
  app.add_option("-j,--threads", common.threads, "threads; 0 (the default) = all")
      ->option_text("N")
      ->check(CLI::Range(0u, 4096u));
}

void add_force(CLI::App& app, Common& common) {
  app.add_flag("-f,--force", common.force, "replace an existing output file");
  app.add_flag_function(
      "--no-sync", [](std::int64_t) { sync_outputs(false); }, "do not wait until it is on the disk");
}

CLI::Option* add_text(CLI::App& app, const std::string& flags, std::string& target, const std::string& value_name,
                      const std::string& description) {
  const auto some = [](const std::string& text) { return text.empty() ? "may not be empty" : ""; };
  return app.add_option(flags, target, description)->option_text(value_name)->check(some);
}

CLI::Option* add_texts(CLI::App& app, const std::string& flags, std::vector<std::string>& target,
                       const std::string& value_name, const std::string& description) {
  return app.add_option(flags, target, description)->option_text(value_name)->allow_extra_args(false);
}

CLI::Validator finite_range(double least, double most) {
  return {[=](const std::string& given) {
            const bool good = parse_number(given, least, most).has_value();
            return good ? std::string() : fmt::format("{} is not a number from {} to {:g}", given, least, most);
          },
          ""};
}

void add_recognising(CLI::App& app, Recognising& options) {
  add_text(app, "--layout", options.layout, "AXES", "axes of all K and V tensors, as BHTD or 2LTHD");
  add_texts(app, "--map", options.map, "P=ROLE:AXES", "role and axes of the tensors named like P");
  app.add_flag("--strict", options.strict, "refuse a dump with floats that are not recognised");
}

KeyValues parse_meta(const std::vector<std::string>& texts) {
  KeyValues out;
  for (const std::string& text : texts) {
    const std::size_t at = text.find('=');
    if (at == 0 || at == std::string::npos) throw UsageError(fmt::format("--meta {}: expected KEY=VALUE", text));
    std::string name = text.substr(0, at);
    const auto same = [&](const auto& pair) { return pair.first == name; };
    if (std::any_of(out.begin(), out.end(), same)) throw UsageError(fmt::format("--meta {} is given twice", name));
    out.emplace_back(std::move(name), text.substr(at + 1));
  }
  return out;
}

RecogniseOptions recognise_options(const Recognising& options) {
  RecogniseOptions out;
  out.layout = options.layout;
  for (const std::string& text : options.map) {
    out.map.push_back(as_typed("--map", [&] { return parse_map_rule(text); }));
  }
  return out;
}

Recognition recognise_input(const DumpReader& reader, const Recognising& options, const KeyValues& meta) {
  const RecogniseOptions wanted = recognise_options(options);
  Recognition found;
  const bool overridden = !options.layout.empty() || !options.map.empty();
  if (reader.recognition() != nullptr && !overridden) {
    found = *reader.recognition();
  } else {
    Dump seen = reader.dump();
    for (const auto& entry : meta) {
      const auto& name = entry.first;
      std::erase_if(seen.attributes, [&](const Attribute& a) { return a.object.empty() && a.name == name; });
      seen.attributes.push_back({"", name, {entry.second}, {}, {}, {}});
    }
    found = recognise(seen, wanted);
  }
  const std::string open = unrecognised_text(reader.dump(), found);
  if ((options.strict || options.some) && found.recognised == 0) {
    fail(ErrorCode::invalid_argument,
         "none of its {} tensors was recognised as key or value; see 'kvzip inspect', and name them with --map{}{}",
         found.tensors.size(), open.empty() ? "" : "; ", open);
  }
  if (options.strict && !open.empty()) fail(ErrorCode::invalid_argument, "{} (--strict)", open);
  const std::string left_out = options.say ? left_out_text(reader) : std::string();
  if (!left_out.empty()) note(left_out);
  if (options.say && !open.empty()) note(open);
  return found;
}

std::string read_rules_text(const std::string& path) {
  constexpr std::size_t kMaxPreset = std::size_t{1} << 20;
  std::ifstream in(path, std::ios::binary);
  std::string text(kMaxPreset + 1, '\0');
  if (in) in.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (in.bad() || !in.is_open()) fail_in(path, ErrorCode::io, "cannot read this preset file");
  text.resize(static_cast<std::size_t>(in.gcount()));
  if (text.size() > kMaxPreset) fail_in(path, ErrorCode::limit, "too long for a preset file");
  return text;
}

Tables load_tables(const std::string& path) {
  return with_file(path, [&] { return read_tables(path); });
}

RuleSet load_rules(const std::string& preset, const std::string& key, const std::string& value,
                   std::string_view option) {
  const auto known = builtin_presets();
  const bool builtin = std::any_of(known.begin(), known.end(), [&](const PresetText& p) { return p.name == preset; });
  std::error_code ignored;
  RuleSet rules;
  if (preset.find_first_of("/.") != std::string::npos ||
      (!builtin && std::filesystem::is_regular_file(preset, ignored))) {
    const std::string name = std::filesystem::path(preset).filename().string();
    rules = with_file(preset, [&] { return RuleSet::parse(read_rules_text(preset), name); });
  } else {
    rules = as_typed(option, [&] { return RuleSet::builtin(preset); });
  }
  if (!key.empty()) as_typed("--key", [&] { rules.override_role(Role::key, canonical_pipeline(key)); });
  if (!value.empty()) as_typed("--value", [&] { rules.override_role(Role::value, canonical_pipeline(value)); });
  return rules;
}

std::optional<std::uint64_t> parse_chunk_tokens(const std::string& text) {
  if (text.empty()) return {};
  if (text == "all") return 0;
  constexpr std::uint64_t kMost = std::uint64_t{1} << 50;
  const auto tokens = parse_number<std::uint64_t>(text, 0, kMost);
  if (!tokens) throw UsageError(fmt::format("--chunk-tokens {}: expected a number of tokens, or 'all'", text));
  if (*tokens == 0) throw UsageError("--chunk-tokens 0: a chunk holds at least one token; 'all' makes one chunk");
  return tokens;
}

void refuse_same_file(const std::string& in, const std::string& out) {
  if (in == "-" || is_stream_output(out)) return;
  const auto source = file_identity(in), target = file_identity(out);
  if (source && target && *source == *target) {
    fail_in(out, ErrorCode::invalid_argument, "input and output are the same file");
  }
}

void refuse_existing(const std::string& out, bool force) {
  std::error_code ignored;
  if (!force && !is_stream_output(out) && std::filesystem::is_regular_file(out, ignored)) {
    Error error(ErrorCode::invalid_argument, "exists already", Hint::overwrite);
    error.add_file(out);
    throw error;
  }
}

std::string output_format(const std::string& path, const std::string& to) {
  if (to == "kvz") throw UsageError("--to kvz: to make a container, use 'kvzip compress'");
  if (!to.empty()) {
    const auto known = file_formats();
    if (std::any_of(known.begin(), known.end(), [&](const FileFormat& f) { return f.name == to; })) return to;
    throw UsageError(fmt::format("--to {}: there is no such format; see 'kvzip list formats'", to));
  }
  if (is_standard_output(path)) {
    throw UsageError("standard output has no extension to tell the format: give it with --to (safetensors, hdf5 ...)");
  }
  const std::string format(format_of_path(path));
  if (format.empty()) {
    throw UsageError(
        fmt::format("{}: no known format has this extension: name it .safetensors, .h5 or .npz, or give --to "
                    "(safetensors, hdf5 ...)",
                    path));
  }
  if (format == "kvz") throw UsageError(fmt::format("{}: to make a container, use 'kvzip compress'", path));
  return format;
}

}  // namespace kvzip::tool
