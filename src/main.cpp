// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <exception>
#include <filesystem>
#include <string>
#include <vector>

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "codec/kernels/instruction_set.hpp"
#include "codec/nearest.hpp"
#include "formats/file.hpp"
#include "kvzip/memory.hpp"
#include "kvzip/version.hpp"
#include "src/cli/batch.hpp"
#include "src/cli/memory_limit.hpp"
#include "src/commands.hpp"
#include "src/report/report.hpp"

namespace {

using namespace kvzip;
using namespace kvzip::tool;

constexpr const char* kFooter =
    "A file name of - is standard input or output. Exit status: 0 done, 1 error,\n"
    "2 usage, 3 corrupt, 4 unsupported, 5 I/O, 6 limit missed. See COMMAND --help.";

/// The version alone on the first line, for scripts.
std::string version_text() {
  std::vector<std::string> libraries;
  for (const LibraryVersion& library : library_versions()) libraries.push_back(library.name + " " + library.version);
  return fmt::format("kvzip {}\nwith {}\ninstruction set {}, of {}", version(), fmt::join(libraries, ", "),
                     kernels::instruction_set_name(), fmt::join(kernels::compiled_instruction_sets(), " "));
}

/// Blocks of a few MB come and go with every tile. Taken from the system each time they cost more than the loops that
/// fill them, because every page is zeroed at its first touch; so the heap keeps them.
void keep_large_blocks() {
#ifdef __GLIBC__
  mallopt(M_MMAP_THRESHOLD, 32 << 20);
  mallopt(M_TRIM_THRESHOLD, 64 << 20);
#endif
}

/// What comes without a command is what other compressors take: -d, -t and -l are decompress, verify and inspect, any
/// other short option goes to compress. A name alone is no command, so that files and commands are never confused.
void add_command_word(std::vector<std::string>& words) {
  const auto is_short = [](const std::string& word) { return word.size() > 1 && word[0] == '-' && word[1] != '-'; };
  if (words.size() < 2 || !is_short(words[1]) || words[1] == "-h" || words[1] == "-V") return;
  constexpr std::string_view kLetters = "dtl";
  constexpr std::array<std::string_view, 3> kCommands{"decompress", "verify", "inspect"};
  std::string command = "compress";
  for (std::size_t i = 1; i < words.size() && is_short(words[i]); ++i) {
    std::string& word = words[i];
    const std::size_t value = word.find_first_of("oj");  // what follows these is theirs
    const std::size_t at = word.find_first_of(kLetters);
    if (at < value && at != word.npos) {
      command = kCommands[kLetters.find(word[at])];
      word.erase(at, 1);
      if (word == "-") words.erase(words.begin() + static_cast<std::ptrdiff_t>(i));
      break;
    }
    if (value != word.npos) break;
  }
  words.insert(words.begin() + 1, command);
}

std::string unknown_command(const CLI::App& app, std::string_view typed) {
  std::string what = fmt::format("there is no command '{}'", typed);
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands({})) names.push_back(command->get_name());
  const std::string guess = did_you_mean(typed, std::vector<std::string_view>(names.begin(), names.end()));
  std::error_code ignored;
  if (!guess.empty()) {
    what += guess;
  } else if (std::filesystem::exists(typed, ignored)) {
    what += fmt::format("; to compress this file: kvzip compress {}", shell_word(std::string(typed)));
  }
  return what;
}

/// An option that the command does not have, and the one that may be meant.
std::string unknown_option(const CLI::App& command, const std::string& typed) {
  std::vector<std::string> names;
  for (const CLI::Option* option : command.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  }
  const std::string name = typed.substr(0, typed.find('='));
  return fmt::format("{} has no option {}{}", command.get_name(), name,
                     did_you_mean(name, std::vector<std::string_view>(names.begin(), names.end())));
}

/// Never throws: what cannot be read is a usage error, told on one line.
int parse(CLI::App& app, const std::vector<std::string>& words) {
  try {
    app.parse(std::vector<std::string>(words.rbegin(), words.rend() - 1));
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success)) return app.exit(error);
    std::string command = "kvzip";
    for (const CLI::App* sub : app.get_subcommands()) command += " " + sub->get_name();
    std::string what = error.what();
    what.erase(what.find_last_not_of(" \n") + 1);
    if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::ExtrasError) && !app.get_subcommands().empty()) {
      const std::vector<std::string> left = app.remaining(true);
      const auto option =
          std::find_if(left.begin(), left.end(), [](const std::string& w) { return w.starts_with('-'); });
      if (option != left.end()) what = unknown_option(*app.get_subcommands().front(), *option);
    }
    if (app.get_subcommands().empty()) {
      if (words.size() < 2) what = "which command?";
      if (words.size() > 1 && !words[1].starts_with('-')) what = unknown_command(app, words[1]);
      if (words.size() > 1 && words[1].starts_with("--"))
        what = fmt::format("which command? {} goes behind it", words[1]);
    }
    complain(fmt::format("{}; see '{} --help'", what, command));
    return kUsage;
  }
  return -1;
}

int perform(const Action& action) {
  int status = kError;
  const auto failure = failure_of([&] { status = action(); });
  if (!failure) return status;
  complain(failure->text);
  return failure->status;
}

/// Memory that runs out where no error may be thrown ends here: with a message and without unfinished outputs.
[[noreturn]] void give_up() {
  constexpr std::string_view kText = "kvzip: not enough memory, or a defect of kvzip\n";
  remove_unfinished_outputs();
  if (::write(STDERR_FILENO, kText.data(), kText.size()) < 0) ::_exit(kIo);
  ::_exit(kError);
}

}  // namespace

int main(int argc, char** argv) {  // NOLINT(bugprone-exception-escape): what gets out ends in give_up()
  limit_memory(machine_memory());
  std::set_terminate(give_up);
  keep_large_blocks();
  const KeepMemory keep;
  install_signal_cleanup();
  command_line() = "kvzip";
  for (int i = 1; i < argc; ++i) command_line() += " " + shell_word(argv[i]);
  CLI::App app("Compresses the key-value caches of transformer models.", "kvzip");
  app.set_help_flag("-h,--help", "show this help");
  app.set_version_flag("-V,--version", version_text, "show the version, and what this build is made of");
  app.require_subcommand(1);
  app.footer(kFooter);
  app.get_formatter()->column_width(16);
  app.get_formatter()->label("SUBCOMMAND", "COMMAND");
  Action action;
  add_compress(app, action);
  add_decompress(app, action);
  add_append(app, action);
  add_inspect(app, action);
  add_verify(app, action);
  add_recover(app, action);
  add_cut(app, action);
  add_compare(app, action);
  add_diff(app, action);
  add_sweep(app, action);
  add_bench(app, action);
  add_convert(app, action);
  add_prune(app, action);
  add_attend(app, action);
  add_pages(app, action);
  add_list(app, action);
  add_synth(app, action);
  add_plan(app, action);
  add_completion(app, action);
  std::vector<std::string> words(argv, argv + argc);
  if (words.empty()) words.emplace_back("kvzip");
  if (argc > 1 && words[1] == "help") {  // help COMMAND is COMMAND --help
    words.erase(words.begin() + 1);
    words.emplace_back("--help");
  }
  add_command_word(words);
  const int parsed = parse(app, words);
  return parsed >= 0 ? parsed : perform(action);
}
