// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <exception>
#include <new>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "formats/file.hpp"
#include "kvzip/memory.hpp"
#include "src/cli/memory_limit.hpp"
#include "src/commands.hpp"
#include "src/report/report.hpp"

namespace {

using namespace kvzip;
using namespace kvzip::tool;

constexpr const char* kFooter =
    "A file name of - is standard input or output. 'kvzip COMMAND --help' says more.\n"
    "Exit status: 0 done, 1 error, 2 usage, 3 corrupt, 4 unsupported, 5 I/O, 6 limit\n"
    "missed. Example: kvzip compress cache.safetensors -o cache.kvz --preset gear-2";

/// Blocks of a few MB come and go with every tile. Taken from the system each time they cost more than the loops that
/// fill them, because every page is zeroed at its first touch; so the heap keeps them.
void keep_large_blocks() {
#ifdef __GLIBC__
  mallopt(M_MMAP_THRESHOLD, 32 << 20);
  mallopt(M_TRIM_THRESHOLD, 64 << 20);
#endif
}

/// How many letters differ, or are too many or too few, from one word to another (Levenshtein).
std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i + 1);
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, diagonal + 1, row[j] + 1});
    }
  }
  return row.back();
}

std::string unknown_command(const CLI::App& app, std::string_view typed) {
  std::string what = fmt::format("there is no command '{}'", typed);
  constexpr std::size_t kMisspelt = 2;
  std::string_view nearest;
  std::size_t least = kMisspelt + 1;
  for (const CLI::App* command : app.get_subcommands({})) {
    const std::size_t d = distance(typed, command->get_name());
    if (d < least) least = d, nearest = command->get_name();
  }
  if (!nearest.empty()) what += fmt::format("; did you mean '{}'?", nearest);
  return what;
}

/// Never throws: what cannot be read is a usage error, told on one line.
int parse(CLI::App& app, int argc, char** argv) {
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success)) return app.exit(error);
    std::string command = "kvzip";
    for (const CLI::App* sub : app.get_subcommands()) command += " " + sub->get_name();
    std::string what = error.what();
    what.erase(what.find_last_not_of(" \n") + 1);
    if (app.get_subcommands().empty()) {
      if (argc < 2) what = "which command?";
      if (argc > 1 && argv[1][0] != '-') what = unknown_command(app, argv[1]);
    }
    complain(fmt::format("{}; see '{} --help'", what, command));
    return kUsage;
  }
  return -1;
}

int perform(const Action& action) {
  try {
    return action();
  } catch (const UsageError& error) {
    complain(error.what());
    return kUsage;
  } catch (const Error& error) {
    complain(error_text(error));
    return exit_status(error.code());
  } catch (const std::bad_alloc&) {
    complain(
        "not enough memory; fewer threads (-j) or, to compress, smaller chunks (--chunk-tokens) need less, and "
        "--memlimit may allow more");
  } catch (const std::exception& error) {
    complain(error.what());
  }
  return kError;
}

/// Memory that runs out where no error may be thrown ends here: with a message and without unfinished outputs.
[[noreturn]] void give_up() {
  constexpr std::string_view kText = "kvzip: not enough memory, or a defect of kvzip\n";
  remove_unfinished_outputs();
  if (::write(STDERR_FILENO, kText.data(), kText.size()) < 0) ::_exit(kIo);
  ::_exit(kError);
}

}  // namespace

int main(int argc, char** argv) {
  limit_memory(machine_memory());
  std::set_terminate(give_up);
  keep_large_blocks();
  const KeepMemory keep;
  install_signal_cleanup();
  command_line() = "kvzip";
  for (int i = 1; i < argc; ++i) command_line() += " " + shell_word(argv[i]);
  CLI::App app("Compresses the key-value caches of transformer models.", "kvzip");
  app.set_help_flag("-h,--help", "show this help");
  app.set_version_flag("-V,--version", "kvzip " KVZIP_VERSION, "show the version");
  app.require_subcommand(1);
  app.footer(kFooter);
  app.get_formatter()->column_width(16);
  app.get_formatter()->label("SUBCOMMAND", "COMMAND");
  Action action;
  add_compress(app, action);
  add_decompress(app, action);
  add_inspect(app, action);
  add_verify(app, action);
  add_compare(app, action);
  add_sweep(app, action);
  add_bench(app, action);
  add_convert(app, action);
  add_list(app, action);
  add_synth(app, action);
  add_plan(app, action);
  std::vector<char*> words(argv, argv + argc);
  char help[] = "--help";
  if (argc > 1 && argv[1] == std::string_view("help")) {  // help COMMAND is COMMAND --help
    words.erase(words.begin() + 1);
    words.push_back(help);
  }
  const int parsed = parse(app, static_cast<int>(words.size()), words.data());
  return parsed >= 0 ? parsed : perform(action);
}
