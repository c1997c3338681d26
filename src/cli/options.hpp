// SPDX-License-Identifier: Apache-2.0
// What the commands share: options, help pages, and the rules about names of files.
#pragma once

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "codec/number.hpp"
#include "formats/file.hpp"
#include "src/request/recognising.hpp"
#include "src/request/request.hpp"
#include "src/request/selecting.hpp"

namespace kvzip::tool {

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

/// "-" where something is piped or redirected into the process, for a file that was not named; else a usage error that
/// says that this one is missing.
std::string piped_input(const std::string& missing);

struct Page {
  std::string name, description, synopsis, examples;
};
/// Adds a command whose help is the page and its options, with --memlimit, which every command has.
CLI::App* add_command(CLI::App& app, const Page& page);

/// That there was not enough memory, and which options of the command that runs would help.
std::string memory_advice();

struct Common {
  bool quiet = false, force = false, keep = false, unsynced = false;
  int verbose = 0;
  unsigned threads = 0;
};
/// --progress-fd
void add_progress(CLI::App& app);
/// The same, -q and -v.
void add_verbosity(CLI::App& app, Common& common);
/// UsageError where lines of progress would go where data does; to be called where that is standard output.
void keep_progress_apart();
/// --trust: see kvzip/trust.hpp.
void add_trust(CLI::App& app);
void add_threads(CLI::App& app, Common& common);
void add_force(CLI::App& app, Common& common);
/// --mix
void add_mix(CLI::App& app, bool& mix);
/// -c and -k, which other compressors have.
void add_stdout(CLI::App& app, Common& common, std::string& out);
CLI::Option* add_text(CLI::App& app, const std::string& flags, std::string& target, const std::string& value_name,
                      const std::string& description);
CLI::Option* add_texts(CLI::App& app, const std::string& flags, std::vector<std::string>& target,
                       const std::string& value_name, const std::string& description);

/// One of these words; else an error that says which one may be meant.
CLI::Validator one_of(std::vector<std::string_view> words);

/// A decimal number, whole where T is, from `least` to `most`; not NaN. For transform(): it says what the parser reads.
template <typename T>
CLI::Validator number_in(T least, T most = std::numeric_limits<T>::max()) {
  std::string wanted;
  if constexpr (std::is_integral_v<T>) {
    wanted = fmt::format("a whole number from {} to {}", least, most);
  } else {
    wanted = fmt::format("a number from {:g} to {:g}", least, most);
  }
  return {[=](std::string& given) {
            const auto number = parse_number(given, least, most);
            if (!number) return fmt::format("{} is not {}", given, wanted);
            // The parser itself would take 010 for an octal number.
            if constexpr (std::is_integral_v<T>) given = fmt::format("{}", *number);
            return std::string();
          },
          ""};
}

/// --layout, --map and --strict.
void add_recognising(CLI::App& app, Recognising& options);
/// --raw, and the fields of --map: inputs read as something else than they say.
void add_views(CLI::App& app, Recognising& options);
/// `roles` says what is taken without --role.
void add_selecting(CLI::App& app, Selecting& selecting, const std::string& roles);
/// A line on standard error about what a file of this format and name will not say of the dump, if anything.
void note_losses(std::string_view format, const Dump& dump, const std::string& path);

/// The file that is read for this name: of a member its collection, for "-" what standard input is redirected from.
std::optional<FileIdentity> identity_of_input(const std::string& path);
/// fail(invalid_argument) when the output is one of these files; names may be empty. What was read already the writer
/// refuses by itself (keep_read_files()); this one does so before the work.
void refuse_same_file(const std::vector<std::string>& in, const std::string& out);
/// What the writer would refuse at the end of long work: a file of this name, unless it may be replaced, or one that
/// was read.
void refuse_existing(const std::string& out, bool force);
/// The format to write: `to` when given, else the one of the extension.
std::string output_format(const std::string& path, const std::string& to);

}  // namespace kvzip::tool
