// SPDX-License-Identifier: Apache-2.0
#include "src/report/gnuplot.hpp"

#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <system_error>

#include "codec/fail.hpp"
#include "formats/file.hpp"
#include "src/report/markup.hpp"
#include "src/report/report.hpp"

namespace kvzip::tool {
namespace {

[[noreturn]] void fail_missing(std::string_view why) {
  fail(ErrorCode::io, "gnuplot: {}: plots and reports are drawn by it (Debian package gnuplot-nox)", why);
}

void write_script(const TemporaryFile& file, std::string_view script) {
  while (!script.empty()) {
    const ssize_t put = ::write(file.descriptor(), script.data(), script.size());
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) fail_in(file.path(), ErrorCode::io, "cannot write");
    script.remove_prefix(static_cast<std::size_t>(put));
  }
  if (::lseek(file.descriptor(), 0, SEEK_SET) != 0) fail_in(file.path(), ErrorCode::io, "cannot rewind");
}

std::string content_of(const TemporaryFile& file) {
  const InputFile in = file.input("gnuplot");
  std::string out(in.size(), '\0');
  in.read_at(0, std::as_writable_bytes(std::span(out)));
  return out;
}

/// The exit status of `gnuplot -d`, which reads no start-up file of the user's.
int run(const TemporaryFile& in, const TemporaryFile& out, const TemporaryFile& complaints) {
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, in.descriptor(), STDIN_FILENO);
  ::posix_spawn_file_actions_adddup2(&actions, out.descriptor(), STDOUT_FILENO);
  ::posix_spawn_file_actions_adddup2(&actions, complaints.descriptor(), STDERR_FILENO);
  char name[] = "gnuplot", defaults[] = "-d";
  char* const arguments[] = {name, defaults, nullptr};
  pid_t child = 0;
  const int error = ::posix_spawnp(&child, name, &actions, nullptr, arguments, environ);
  ::posix_spawn_file_actions_destroy(&actions);
  if (error != 0) fail_missing(std::generic_category().message(error));
  int status = 0;
  while (::waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) fail(ErrorCode::io, "gnuplot: cannot wait for it");
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace

void require_gnuplot() {
  const char* path = std::getenv("PATH");
  const std::string_view list = path != nullptr ? path : "/bin:/usr/bin";
  for (std::size_t at = 0; at <= list.size();) {
    const std::size_t end = std::min(list.find(':', at), list.size());
    const std::string folder(end > at ? list.substr(at, end - at) : ".");
    if (::access((folder + "/gnuplot").c_str(), X_OK) == 0) return;
    at = end + 1;
  }
  fail_missing("not found");
}

std::string run_gnuplot(std::string_view script) {
  const std::string base = temporary_directory() + "/gnuplot";
  const TemporaryFile in(base), out(base), complaints(base);
  write_script(in, script);
  const int status = run(in, out, complaints);
  if (status != 0) {
    std::string said = content_of(complaints);
    said.erase(0, said.find_first_not_of(" \n"));
    fail(ErrorCode::io, "gnuplot failed: {}", plain_text(said.substr(0, said.find('\n')), 200));
  }
  return content_of(out);
}

std::string gnuplot_quoted(std::string_view text) {
  std::string out = "'";
  for (const char c : plain_text(text)) out += c == '\'' ? std::string("''") : std::string(1, c);
  return out + "'";
}

}  // namespace kvzip::tool
