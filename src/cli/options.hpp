// SPDX-License-Identifier: Apache-2.0
// What the commands share: options, help pages, and the rules about names of files.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "codec/fail.hpp"
#include "kvzip/io.hpp"
#include "kvzip/rules.hpp"
#include "kvzip/tables.hpp"

namespace kvzip::tool {

/// The command line as it was typed, quoted where a shell needs it; set by main().
std::string& command_line();
/// As a shell reads one word back.
std::string shell_word(const std::string& text);

/// What a parsed command line does; gives the exit status.
using Action = std::function<int()>;

enum ExitStatus : int {
  kDone = 0,
  kError = 1,
  kUsage = 2,
  kCorrupt = 3,
  kUnsupported = 4,
  kIo = 5,
  kMissed = 6,  // a threshold was not met
};
ExitStatus exit_status(ErrorCode code);

/// A command line that cannot be meant: exit status 2.
class UsageError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A hint in words of the tool: which option settles it; empty for none.
std::string advice(Hint hint, const std::string& detail = {});
/// The error's text and the advice.
std::string error_text(const Error& error);

/// Runs f on something the user typed: what the library refuses there is a usage error.
template <typename F>
auto as_typed(std::string_view option, F&& f) {
  try {
    return f();
  } catch (const Error& error) {
    if (error.code() != ErrorCode::invalid_argument) throw;
    throw UsageError(fmt::format("{}: {}", option, error_text(error)));
  }
}

/// "-" where something is piped or redirected into the process, for a file that was not named; else a usage error that
/// says that this one is missing.
std::string piped_input(const std::string& missing);
/// "standard input" for "-".
std::string input_name(const std::string& path);
/// Runs f, which has to do with a file as it was typed: an Error that names none gets this one.
template <typename F>
auto with_file(const std::string& path, F&& f) {
  return in_file(input_name(path), std::forward<F>(f));
}

struct Page {
  std::string name, description, synopsis, examples;
};
/// Adds a command whose help is the page and its options, with --memlimit, which every command has.
CLI::App* add_command(CLI::App& app, const Page& page);

struct Common {
  bool quiet = false, force = false;
  int verbose = 0;
  unsigned threads = 0;
};
void add_verbosity(CLI::App& app, Common& common);
/// --trust: see kvzip/trust.hpp.
void add_trust(CLI::App& app);
void add_threads(CLI::App& app, Common& common);
void add_force(CLI::App& app, Common& common);
CLI::Option* add_text(CLI::App& app, const std::string& flags, std::string& target, const std::string& value_name,
                      const std::string& description);
CLI::Option* add_texts(CLI::App& app, const std::string& flags, std::vector<std::string>& target,
                       const std::string& value_name, const std::string& description);

/// A number that is finite and from `least` to `most`; not NaN.
CLI::Validator finite_range(double least, double most);

/// --layout, --map, --strict and (for compress) --meta: how tensors are recognised.
struct Recognising {
  std::string layout;
  std::vector<std::string> map, meta;
  bool strict = false;  // refuse what is not recognised in full
  bool some = false;    // refuse what holds no keys and no values
  bool say = false;     // a line on standard error when floats are not recognised
};
void add_recognising(CLI::App& app, Recognising& options);
/// Why a tensor is what it is, and what would settle it: the options with what to give them.
std::string why_text(const TensorInfo& tensor, const TensorRole& role);
/// "4 of 6 float tensors stay lossless: ..., why, and what to do"; empty when all were recognised or left out by a map.
std::string unrecognised_text(const Dump& dump, const Recognition& recognition);
/// "left out: ...": what an HDF5 file holds that no dump can; empty where there is nothing.
std::string left_out_text(const DumpReader& reader);
/// A line on standard error about what a file of this format and name will not say of the dump, if anything.
void note_losses(std::string_view format, const Dump& dump, const std::string& path);
/// What --layout and --map say; UsageError for a rule that is none.
RecogniseOptions recognise_options(const Recognising& options);
using KeyValues = std::vector<std::pair<std::string, std::string>>;
KeyValues parse_meta(const std::vector<std::string>& texts);
/// The roles of a dump's tensors: a container's own unless --layout or --map say otherwise. `meta` stands in for the
/// dump's own metadata of the same names.
Recognition recognise_input(const DumpReader& reader, const Recognising& options, const KeyValues& meta);

/// The text of a preset or pipelines file, at most 1 MiB.
std::string read_rules_text(const std::string& path);
/// A file of tables (.kvzd).
Tables load_tables(const std::string& path);
/// A preset by name, or from a file when the text holds '/' or '.' or when only a file has that name.
RuleSet load_rules(const std::string& preset, const std::string& key, const std::string& value,
                   std::string_view option = "--preset");
/// "all" is 0; empty is nothing.
std::optional<std::uint64_t> parse_chunk_tokens(const std::string& text);

/// fail(invalid_argument) when both names are the same file.
void refuse_same_file(const std::string& in, const std::string& out);
/// What the writer would refuse at the end of long work: a file of this name, unless it may be replaced.
void refuse_existing(const std::string& out, bool force);
/// The format to write: `to` when given, else the one of the extension.
std::string output_format(const std::string& path, const std::string& to);

}  // namespace kvzip::tool
