// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <exception>
#include <new>
#include <string>

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "formats/file.hpp"
#include "kvzip/memory.hpp"
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
      if (argc > 1 && argv[1][0] != '-') what = fmt::format("there is no command '{}'", argv[1]);
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
    complain("not enough memory; fewer threads (-j) or, to compress, smaller chunks (--chunk-tokens) need less");
  } catch (const std::exception& error) {
    complain(error.what());
  }
  return kError;
}

}  // namespace

int main(int argc, char** argv) {
  keep_large_blocks();
  const KeepMemory keep;
  install_signal_cleanup();
  command_line() = "kvzip";
  for (int i = 1; i < argc; ++i) command_line() += " " + shell_word(argv[i]);
  CLI::App app("Compresses the key-value caches of transformer models.", "kvzip");
  app.set_help_flag("-h,--help", "show this help");
  app.set_version_flag("--version", "kvzip " KVZIP_VERSION, "show the version");
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
  const int parsed = parse(app, argc, argv);
  return parsed >= 0 ? parsed : perform(action);
}
