// SPDX-License-Identifier: Apache-2.0
#include "src/cli/options.hpp"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <utility>

#include "codec/fail.hpp"
#include "codec/nearest.hpp"
#include "codec/number.hpp"
#include "formats/collection.hpp"
#include "formats/file.hpp"
#include "kvzip/trust.hpp"
#include "src/cli/memory_limit.hpp"
#include "src/report/progress.hpp"
#include "src/report/report.hpp"

namespace kvzip::tool {
namespace {

const CLI::App* g_command = nullptr;  // that runs

/// A page that shows the synopsis as the project writes it, the options, and nothing that the synopsis says already.
class PageFormatter : public CLI::Formatter {
 public:
  explicit PageFormatter(std::string synopsis) : synopsis_(std::move(synopsis)) { column_width(27); }
  std::string make_usage(const CLI::App*, std::string) const override { return fmt::format("Usage: {}\n", synopsis_); }
  std::string make_positionals(const CLI::App*) const override { return {}; }
  std::string make_option_name(const CLI::Option* option, bool positional) const override {
    return option->check_sname("1") ? "-1 ... -9" : Formatter::make_option_name(option, positional);
  }

 private:
  std::string synopsis_;
};

}  // namespace

std::optional<FileIdentity> identity_of_input(const std::string& path) {
  if (path == "-") return file_identity("/dev/stdin");
  const auto file = file_identity(path);
  const auto all = file ? std::nullopt : collection_of(path);
  return all ? file_identity(*all) : file;
}

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

std::string piped_input(const std::string& missing) {
  struct stat status {};
  const bool there = ::fstat(STDIN_FILENO, &status) == 0;
  if (there && (S_ISFIFO(status.st_mode) || S_ISREG(status.st_mode) || S_ISSOCK(status.st_mode))) return "-";
  throw CLI::ValidationError(fmt::format("{} is required: a file, or something piped in", missing));
}

void note_losses(std::string_view format, const Dump& dump, const std::string& path) {
  const std::vector<std::string> what = format_losses(format, dump, path);
  if (!what.empty()) note(fmt::format("{}: {} files have no place for {}", path, format, fmt::join(what, ", ")));
}

std::string memory_advice() {
  const auto has = [](const char* option) {
    return g_command != nullptr && g_command->get_option_no_throw(option) != nullptr;
  };
  std::string out = "not enough memory; ";
  if (has("--threads")) {
    const bool chunks = has("--chunk-tokens");
    out += fmt::format("fewer threads (-j){} need less, and ", chunks ? " or smaller chunks (--chunk-tokens)" : "");
  }
  return out + "--memlimit may allow more";
}

CLI::App* add_command(CLI::App& app, const Page& page) {
  CLI::App* command = app.add_subcommand(page.name, page.description);
  command->preparse_callback([command](std::size_t) { g_command = command; });
  command->group("Commands");
  command->formatter(std::make_shared<PageFormatter>(page.synopsis));
  command->footer("Examples:\n" + page.examples);
  command->set_help_flag("-h,--help", "show this help");
  const auto limit = [](const std::string& text) {
    const auto bytes = parse_memory(text);
    const bool share = text.ends_with('%') && !parse_number(text.substr(0, text.size() - 1), 0.0, 100.0);
    if (!bytes || share) {
      throw CLI::ValidationError("--memlimit", text + ": expected 8M or more, as 512M, 4GiB, 50% (up to 100%) or none");
    }
    limit_memory(*bytes);
  };
  command->add_option_function<std::string>("--memlimit", limit, "memory to take at most (default: the machine's)")
      ->option_text("SIZE");
  return command;
}

void add_progress(CLI::App& app) {
  const auto tell = [](int descriptor) {
    if (report_progress_to(descriptor)) return;
    throw CLI::ValidationError("--progress-fd", fmt::format("{0} is not open; open it as in {0}>FILE", descriptor));
  };
  app.add_option_function<int>("--progress-fd", tell, "lines of progress as JSON to a descriptor")
      ->option_text("N")
      ->transform(number_in(1, 1 << 20));
}

void add_verbosity(CLI::App& app, Common& common) {
  app.add_flag_function(
      "-q,--quiet",
      [&common](std::int64_t) {
        common.quiet = true;
        show_copies(false);
      },
      "say nothing but errors");
  app.add_flag("-v,--verbose", common.verbose, "say more");
  add_progress(app);
}

void keep_progress_apart() {
  if (progress_on_output()) throw UsageError("--progress-fd: what is asked for goes there; open another for progress");
}

void add_trust(CLI::App& app) {
  app.add_flag_function(
      "--trust", [](std::int64_t) { trust_files(true); }, "decode what asks for more than its size allows");
}

void add_threads(CLI::App& app, Common& common) {
  app.add_option("-j,--threads", common.threads, "threads; 0 (the default) = all")
      ->option_text("N")
      ->transform(number_in(0u, 4096u));
}

void add_mix(CLI::App& app, bool& mix) {
  app.add_flag("--mix", mix, "go on with files that do not belong together");
}

void add_force(CLI::App& app, Common& common) {
  app.add_flag("-f,--force", common.force, "replace an existing output file");
  app.add_flag_function(
      "--no-sync",
      [&common](std::int64_t) {
        common.unsynced = true;
        sync_outputs(false);
      },
      "do not wait until it is on the disk");
}

void add_stdout(CLI::App& app, Common& common, std::string& out) {
  app.add_flag_function(
      "-c,--stdout",
      [&out](std::int64_t) {
        if (!out.empty() && !is_standard_output(out)) {
          throw CLI::ValidationError(fmt::format("-c writes to standard output, -o to {}: choose one", out));
        }
        out = "-";
      },
      "write to standard output, as -o -");
  app.add_flag("-k,--keep", common.keep, "keep inputs, as always without --rm");
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

CLI::Validator one_of(std::vector<std::string_view> words) {
  const std::string list = fmt::format("{}", fmt::join(words, ","));
  const auto check = [words = std::move(words)](const std::string& given) {
    if (std::ranges::find(words, given) != words.end()) return std::string();
    return fmt::format("'{}' is none of {}{}", given, fmt::join(words, ", "), did_you_mean(given, words));
  };
  return {check, "{" + list + "}"};
}

void add_recognising(CLI::App& app, Recognising& options) {
  add_text(app, "--layout", options.layout, "AXES", "axes of all K and V tensors, as BHTD or 2LTHD");
  add_texts(app, "--map", options.map, "P=ROLE:AXES", "role and axes of the tensors named like P");
  app.add_flag("--strict", options.strict, "refuse a dump with floats that are not recognised");
}

void add_views(CLI::App& app, Recognising& options) {
  options.views = true;
  add_text(app, "--raw", options.raw, "LAYOUT", "bare elements, as kv:2LTHD:bf16:2x32x-x8x128");
  const auto set = [&options](const std::string&) { options.by_tokens = true; };
  app.add_option_function<std::string>("--join", set, "files (of a folder) hold tokens in their order")
      ->option_text("tokens")
      ->check(one_of({"tokens"}));
}

void add_selecting(CLI::App& app, Selecting& selecting, const std::string& roles) {
  add_text(app, "--layers", selecting.layers, "A-B", "only these layers");
  add_text(app, "--tokens", selecting.tokens, "A:B", "only tokens A to B - 1");
  add_text(app, "--role", selecting.role, "ROLE", roles);
}

void refuse_same_file(const std::vector<std::string>& in, const std::string& out) {
  const auto target = is_stream_output(out) ? std::nullopt : file_identity(out);
  if (!target) return;
  for (const std::string& path : in) {
    if (identity_of_input(path) == target) fail_same_file(out);
  }
}

void refuse_existing(const std::string& out, bool force) {
  std::error_code ignored;
  const auto folder = std::filesystem::path(out).parent_path();
  if (!is_standard_output(out) && !folder.empty() && !std::filesystem::exists(folder, ignored) && !collection_of(out)) {
    fail_in(folder.string(), ErrorCode::io, "there is no such folder");
  }
  if (!force && !is_stream_output(out) && std::filesystem::is_regular_file(out, ignored)) {
    Error error(ErrorCode::invalid_argument, "exists already", Hint::overwrite);
    error.add_file(out);
    throw error;
  }
  if (!is_stream_output(out)) refuse_read_file(out);
}

std::string output_format(const std::string& path, const std::string& to) {
  if (is_standard_output(path)) keep_progress_apart();
  if (to == "kvz") throw UsageError("--to kvz: to make a container, use 'kvzip compress'");
  if (!to.empty()) {
    std::vector<std::string_view> known;
    for (const FileFormat& format : file_formats()) known.push_back(format.name);
    if (std::ranges::find(known, to) != known.end()) return to;
    throw UsageError(
        fmt::format("--to {}: there is no such format{}; see 'kvzip list formats'", to, did_you_mean(to, known)));
  }
  if (is_standard_output(path)) {
    throw UsageError("standard output has no extension to tell the format: give it with --to (safetensors, hdf5 ...)");
  }
  std::string format(format_of_path(path));
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
