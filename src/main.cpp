// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <exception>
#include <filesystem>
#include <optional>
#include <sstream>
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
#include "src/report/progress.hpp"
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

bool is_short(const std::string& word) {
  return word.size() > 1 && word[0] == '-' && word[1] != '-';
}

/// Where the value of -o or -j begins, which may stand in the same word.
std::size_t letters_end(const std::string& word) {
  return std::min(word.find_first_of("oj"), word.size());
}

/// What other compressors have instead of commands.
struct CommandOption {
  char letter;
  std::string_view name, command;
};
constexpr std::array<CommandOption, 3> kCommandOptions{
    {{'d', "--decompress", "decompress"}, {'t', "--test", "verify"}, {'l', "--list", "inspect"}}};

/// Takes one out of a word, of which nothing may be left; null where there is none.
const CommandOption* take_command(std::string& word) {
  for (const CommandOption& option : kCommandOptions) {
    const std::size_t at = is_short(word) ? word.find(option.letter) : word.npos;
    if (at < letters_end(word)) {
      word.erase(at, 1);
    } else if (word == option.name) {
      word = "-";
    } else {
      continue;
    }
    return &option;
  }
  return nullptr;
}

/// Whether the word behind this one is its value, whatever it looks like.
bool takes_next_word(const CLI::App& command, const std::string& word) {
  if (is_short(word)) return letters_end(word) + 1 == word.size();
  const CLI::Option* option = word.starts_with("--") ? command.get_option_no_throw(word) : nullptr;
  return option != nullptr && option->get_items_expected_max() > 0;
}

/// Levels say nothing to what does not compress, and other compressors take them there, too.
void drop_levels(const CLI::App& command, std::vector<std::string>& words) {
  const auto is_word = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
  };
  for (std::size_t i = 1; i < words.size() && words[i] != "--"; ++i) {
    std::string& word = words[i];
    const bool value_follows = takes_next_word(command, word);
    if (is_short(word) && word != "-0" && word != "-10") {
      const auto end = word.begin() + static_cast<std::ptrdiff_t>(letters_end(word));
      if (!std::all_of(word.begin() + 1, end, is_word)) continue;  // a value, as -1000: of --tokens
      word.erase(std::remove_if(word.begin(), end, [](char c) { return c >= '1' && c <= '9'; }), end);
      if (word == "-") words.erase(words.begin() + static_cast<std::ptrdiff_t>(i--));
    }
    if (value_follows) ++i;
  }
}

/// A command that stands behind options, where it would be taken for a file.
std::optional<std::string> command_behind(const CLI::App& app, const std::vector<std::string>& words) {
  const CLI::App& taken = *app.get_subcommand(words[1]);
  for (std::size_t i = 2; i < words.size() && words[i] != "--"; ++i) {
    const auto is_meant = [&](const CLI::App* command) { return command->get_name() == words[i]; };
    std::error_code ignored;
    if (!words[i].starts_with('-') && !app.get_subcommands(is_meant).empty() &&
        !std::filesystem::exists(words[i], ignored)) {
      return fmt::format("options go behind the command: kvzip {} {}", words[i], shell_word(words[2]));
    }
    if (takes_next_word(taken, words[i])) ++i;
  }
  return std::nullopt;
}

/// What comes without a command is what other compressors take: -d, -t and -l are decompress, verify and inspect, any
/// other short option goes to compress. A name alone is no command, so that files and commands are never confused.
/// What is wrong with that, if anything.
std::optional<std::string> add_command_word(const CLI::App& app, std::vector<std::string>& words) {
  const auto leads = [](const std::string& word) {
    return is_short(word) || std::ranges::find(kCommandOptions, word, &CommandOption::name) != kCommandOptions.end();
  };
  if (words.size() < 2 || words[1] == "-h" || words[1] == "-V") return std::nullopt;
  const CommandOption* named = std::ranges::find(kCommandOptions, words[1], &CommandOption::command);
  if (named != kCommandOptions.end()) drop_levels(*app.get_subcommand(words[1]), words);
  if (named != kCommandOptions.end() || !leads(words[1])) return std::nullopt;
  std::string command = "compress";
  for (std::size_t i = 1; i < words.size() && leads(words[i]); ++i) {
    if (const CommandOption* option = take_command(words[i])) {
      command = option->command;
      if (words[i] == "-") words.erase(words.begin() + static_cast<std::ptrdiff_t>(i));
      drop_levels(*app.get_subcommand(command), words);
      break;
    }
    if (letters_end(words[i]) < words[i].size()) break;
  }
  words.insert(words.begin() + 1, command);
  return command_behind(app, words);
}

/// Words of other programs.
constexpr std::array<std::array<std::string_view, 2>, 6> kOtherWords{{{"uncompress", "decompress"},
                                                                      {"extract", "decompress"},
                                                                      {"test", "verify"},
                                                                      {"check", "verify"},
                                                                      {"info", "inspect"},
                                                                      {"show", "inspect"}}};

std::string unknown_command(const CLI::App& app, std::string_view typed) {
  std::string what = fmt::format("there is no command '{}'", typed);
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands({})) names.push_back(command->get_name());
  for (const auto& [other, own] : kOtherWords) {
    if (typed == other) return fmt::format("{}; did you mean '{}'?", what, own);
  }
  const std::string guess = did_you_mean(typed, std::vector<std::string_view>(names.begin(), names.end()));
  std::error_code ignored;
  if (!guess.empty() || !std::filesystem::exists(typed, ignored)) return what + guess;
  const bool container = format_of_path(typed) == "kvz";
  return fmt::format("{}; to {} this file: kvzip {} {}", what, container ? "decode" : "compress",
                     container ? "decompress" : "compress", shell_word(std::string(typed)));
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

int perform(const Action& action) {
  int status = kError;
  const auto failure = failure_of([&] { status = action(); });
  if (!failure) return status;
  complain(failure->text);
  return failure->status;
}

/// The parser's words in those of the tool; what is known to be clear stays.
std::string in_words(const CLI::ParseError& error) {
  std::string what = error.what();
  what.erase(what.find_last_not_of(" \n") + 1);
  const auto has = [&](std::string_view words) { return what.find(words) != what.npos; };
  const std::string name = what.substr(0, what.find(": "));
  const std::string rest = what.substr(std::min(what.size(), name.size() + 2));
  if (has(" required ") && has(" missing")) return name + ": its value is missing";
  if (has("At Most ")) return fmt::format("{}: it was given {} times", name, rest.substr(rest.rfind(' ') + 1));
  if (has(" not expected: ")) return fmt::format("what is '{}' for? That is one word too many", rest);
  if (name == "Could not convert") return fmt::format("{}, which has to be a number", rest);
  return what;
}

/// What is wrong with the command line, and the command whose help tells more.
std::string usage_text(const CLI::App& app, const std::vector<std::string>& words, const CLI::ParseError& error) {
  const auto commands = app.get_subcommands();
  std::string what = in_words(error);
  if (!commands.empty() && error.get_exit_code() == static_cast<int>(CLI::ExitCodes::ExtrasError)) {
    const std::vector<std::string> left = app.remaining(true);
    const auto option = std::ranges::find_if(left, [](const std::string& w) { return w.starts_with('-'); });
    if (option != left.end()) what = unknown_option(*commands.front(), *option);
  }
  if (!commands.empty() && words[1].starts_with("--")) {
    what = fmt::format("options go behind the command: kvzip {} {}", commands.front()->get_name(), words[1]);
  }
  if (commands.empty()) {
    if (words.size() < 2) what = "which command?";
    if (words.size() > 1 && !words[1].starts_with('-')) what = unknown_command(app, words[1]);
    if (words.size() > 1 && words[1].starts_with("--"))
      what = fmt::format("which command? {} goes behind it", words[1]);
  }
  return fmt::format("{}; see 'kvzip {}--help'", what, commands.empty() ? "" : commands.front()->get_name() + " ");
}

/// Never throws: what cannot be read is a usage error, told on one line.
int parse(CLI::App& app, const std::vector<std::string>& words) {
  try {
    app.parse(std::vector<std::string>(words.rbegin(), words.rend() - 1));
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success)) {
      return perform([&] {
        std::ostringstream page;
        app.exit(error, page, page);
        print(page.str());
        return static_cast<int>(kDone);
      });
    }
    complain(usage_text(app, words, error));
    return kUsage;
  }
  return -1;
}

/// "help COMMAND" is "COMMAND --help".
void ask_for_help(const CLI::App& app, std::vector<std::string>& words) {
  words.erase(words.begin() + 1);
  const auto is_meant = [&](const CLI::App* command) { return command->get_name() == words[1]; };
  const bool named = words.size() > 1 && !words[1].starts_with('-');
  if (!named || !app.get_subcommands(is_meant).empty()) words.emplace_back("--help");
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
  const InputScope inputs;  // all that a command opens
  install_signal_cleanup();
  keep_read_files();
  show_copies(true);
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
  if (argc > 1 && words[1] == "help") ask_for_help(app, words);
  if (const auto wrong = add_command_word(app, words)) {
    complain(*wrong + "; see 'kvzip --help'");
    return kUsage;
  }
  const int parsed = parse(app, words);
  return parsed >= 0 ? parsed : perform(action);
}
