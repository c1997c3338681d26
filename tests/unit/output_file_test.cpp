// SPDX-License-Identifier: Apache-2.0
#include <sys/resource.h>

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <thread>

#include "tests/support/failing_call.hpp"
#include "tests/unit/file_support.hpp"

namespace kvzip {
namespace {

using namespace test;
using Access = OutputFile::Access;

TEST_CASE("an output appears when it is finished") {
  const ScratchDirectory scratch;
  const std::string path = scratch.file("a");
  OutputFile out(path, false, Access::positioned);
  out.append(view("hello "));
  out.write_at(8, view("!!"));
  out.append(view("wo"));
  CHECK(out.position() == 8);
  CHECK_FALSE(std::filesystem::exists(path));
  CHECK(scratch.entries() == (has_unnamed_files(scratch) ? 0 : 1));
  out.finish();
  CHECK(content_of(path) == "hello wo!!");
  CHECK(scratch.entries() == 1);
}

TEST_CASE("an output that is not finished leaves nothing") {
  const ScratchDirectory scratch;
  { OutputFile(scratch.file("a"), false).append(view("x")); }
  CHECK(scratch.entries() == 0);
  { const PendingFile pending(scratch.file(std::string(250, 'n')), false); }
  CHECK(scratch.entries() == 0);
  CHECK(code_of([&] { OutputFile(scratch.file("no/such/directory"), false); }) == ErrorCode::io);
  CHECK(code_of([&] { OutputFile("", false); }) == ErrorCode::invalid_argument);
  CHECK(code_of([&] { OutputFile(scratch.file("."), true); }) == ErrorCode::io);
}

TEST_CASE("an existing file is replaced only on request") {
  const ScratchDirectory scratch;
  const std::string path = scratch.file("a", "old");
  ::chmod(path.c_str(), 0640);
  CHECK(code_of([&] { OutputFile(path, false); }) == ErrorCode::invalid_argument);
  CHECK(content_of(path) == "old");
  {
    OutputFile out(path, true);
    out.append(view("new"));
    CHECK(content_of(path) == "old");
    out.finish();
  }
  CHECK(content_of(path) == "new");
  struct stat status {};
  REQUIRE(::stat(path.c_str(), &status) == 0);
  CHECK((status.st_mode & 0777) == 0640);
  CHECK(scratch.entries() == 1);
}

TEST_CASE("a file that appears while the output is written is not replaced") {
  const ScratchDirectory scratch;
  const std::string path = scratch.file("a");
  {
    OutputFile out(path, false);
    scratch.file("a", "other");
    CHECK(code_of([&] { out.finish(); }) == ErrorCode::invalid_argument);
  }
  CHECK(content_of(path) == "other");
  CHECK(scratch.entries() == 1);
}

TEST_CASE("an output through a symbolic link replaces the file it leads to") {
  const ScratchDirectory scratch;
  const std::string path = scratch.file("a", "old"), link = scratch.file("link");
  std::filesystem::create_symlink("a", link);
  CHECK(code_of([&] { OutputFile(link, false); }) == ErrorCode::invalid_argument);
  OutputFile out(link, true);
  out.append(view("new"));
  out.finish();
  CHECK(std::filesystem::is_symlink(link));
  CHECK(content_of(path) == "new");
}

TEST_CASE("devices and pipes get their bytes directly") {
  const ScratchDirectory scratch;
  const std::string pipe = scratch.file("pipe");
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  for (const Access access : {Access::sequential, Access::positioned}) {
    std::string got;
    std::thread reader([&] { got = content_of(pipe); });
    {
      OutputFile out(pipe, false, access);
      out.append(view("hello "));
      if (access == Access::positioned) {
        out.write_at(8, view("rld"));
      } else {
        CHECK(code_of([&] { out.write_at(8, view("rld")); }) == ErrorCode::invalid_argument);
      }
      out.append(view("wo"));
      out.finish();
    }
    reader.join();
    CHECK(got == (access == Access::positioned ? "hello world" : "hello wo"));
    CHECK(scratch.entries() == 1);
  }
  OutputFile full("/dev/full", false);
  CHECK(code_of([&] { full.append(view("x")); }) == ErrorCode::io);
  OutputFile collected("/dev/full", false, Access::positioned);
  collected.append(view("x"));
  CHECK(code_of([&] { collected.finish(); }) == ErrorCode::io);
}

TEST_CASE("standard output") {
  const ScratchDirectory scratch;
  for (const Access access : {Access::sequential, Access::positioned}) {
    const std::string path = scratch.file("out");
    CHECK(in_child([&] {
            redirect(path, O_WRONLY | O_CREAT | O_TRUNC, 1);
            OutputFile out("-", false, access);
            out.append(view("hello "));
            require(content_of(path) == (access == Access::sequential ? "hello " : ""));
            out.append(view("world"));
            out.finish();
          }) == 0);
    CHECK(content_of(path) == "hello world");
  }
}

TEST_CASE("binary output to a terminal is refused") {
  const int terminal = ::posix_openpt(O_RDWR | O_NOCTTY);
  if (terminal < 0 || ::grantpt(terminal) != 0 || ::unlockpt(terminal) != 0) return;
  const FileDescriptor owner(terminal);
  const std::string name = ::ptsname(terminal);
  CHECK(code_of([&] { OutputFile(name, true); }) == ErrorCode::invalid_argument);
  CHECK(in_child([&] {
          redirect(name, O_RDWR | O_NOCTTY, 1);
          require(code_of([&] { OutputFile("-", true); }) == ErrorCode::invalid_argument);
        }) == 0);
}

TEST_CASE("writing to a closed pipe is an error, not a signal") {
  CHECK(in_child([&] {
          install_signal_cleanup();
          int ends[2];
          require(::pipe(ends) == 0 && ::dup2(ends[1], 1) == 1);
          ::close(ends[0]);
          OutputFile out("-", false);
          require(code_of([&] { out.append(view("x")); }) == ErrorCode::io);
        }) == 0);
}

TEST_CASE("a signal removes unfinished outputs and still ends the process") {
  const ScratchDirectory scratch;
  const auto signals = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGXCPU, SIGALRM, SIGUSR1};
  for (const int signal : signals) {
    const int status = in_child([&] {
      ::signal(signal, SIG_DFL);
      install_signal_cleanup();
      OutputFile finished(scratch.file("finished" + std::to_string(signal)), false);
      finished.finish();
      const OutputFile a(scratch.file("a"), false);
      TemporaryFile b(scratch.file("b")), c(scratch.file("c"));
      const std::size_t before = scratch.entries();
      b.real_path();
      c.real_path();
      require(scratch.entries() >= before && scratch.entries() >= 3);
      ::raise(signal);
    });
    CHECK(WIFSIGNALED(status));
    CHECK(WTERMSIG(status) == signal);
  }
  CHECK(scratch.entries() == signals.size());
}

TEST_CASE("a file larger than the process may write is an error, not a signal") {
  const ScratchDirectory scratch;
  CHECK(in_child([&] {
          install_signal_cleanup();
          const rlimit most{1000, 1000};
          require(::setrlimit(RLIMIT_FSIZE, &most) == 0);
          OutputFile out(scratch.file("a"), false);
          require(code_of([&] { out.append(Bytes(2000)); }) == ErrorCode::io);
        }) == 0);
  CHECK(scratch.entries() == 0);
}

TEST_CASE("what the file system says of writes when a file is closed keeps the output from its name") {
  const ScratchDirectory scratch;
  for (const bool synced : {true, false}) {
    sync_outputs(synced);
    for (const bool replaces : {false, true}) {
      const std::string path = scratch.file(replaces ? "old" : "new");
      if (replaces) scratch.file("old", "as it was");
      OutputFile out(path, replaces);
      out.append(view("x"));
      {
        const FailingCall quota(Call::close, EDQUOT);
        CHECK(code_of([&] { out.finish(); }) == ErrorCode::io);
      }
      CHECK(std::filesystem::exists(path) == replaces);
      CHECK((!replaces || content_of(path) == "as it was"));
      const FailingCall interrupted(Call::close, EINTR, 1, 1);
      out.finish();
      CHECK(interrupted.reached());
      CHECK(content_of(path) == "x");
      std::filesystem::remove(path);
    }
  }
  sync_outputs(true);
  CHECK(scratch.entries() == 0);
}

TEST_CASE("temporary files are for their owner alone, and their names cannot be guessed") {
  const ScratchDirectory scratch;
  TemporaryFile a(scratch.file("name")), b(scratch.file("name"));
  CHECK(mode_of(a.path()) == 0600);
  for (TemporaryFile* file : {&a, &b}) {
    const std::string name = file->real_path().substr(scratch.file("").size());
    CHECK(name.starts_with(".name.kvzip-"));
    CHECK(name.size() == std::string(".name.kvzip-").size() + 16);
    CHECK(mode_of(file->real_path()) == 0600);
  }
  CHECK(a.real_path() != b.real_path());
  a.sink()->append(view("text"));
  CHECK(read_text(a.input("a"), 0, 4) == "text");
  CHECK(scratch.entries() == 2);
}

TEST_CASE("an output is no more readable than the inputs") {
  const ScratchDirectory scratch;
  const mode_t mask = ::umask(022);
  const auto written = [&](std::string_view name) {
    OutputFile out(scratch.file(name), true);
    out.append(view("x"));
    out.finish();
    return mode_of(scratch.file(name));
  };
  const auto read = [&](std::string_view name, unsigned mode) {
    const std::string path = scratch.file(name, "content");
    ::chmod(path.c_str(), mode);
    const InputFile input(path);
  };
  CHECK(written("plain") == 0644);
  read("no-scope", 0600);
  CHECK(written("beside") == 0644);
  const InputScope inputs;
  read("open", 0444);
  CHECK(written("of-open") == 0644);
  read("group", 0640);
  CHECK(written("of-group") == 0640);
  read("private", 0600);
  CHECK(written("of-private") == 0600);
  CHECK(written("plain") == 0600);  // what it replaces was more readable
  {
    const InputScope inner;
    CHECK(written("inside") == 0600);
    read("none", 0);  // noted in both
  }
  std::thread([&] { CHECK(written("of-another-thread") == 0644); }).join();
  forget_inputs();
  CHECK(written("later") == 0644);
  ::umask(027);
  CHECK(written("masked") == 0640);
  ::umask(mask);
}

TEST_CASE("the mask of a host program is read and never set") {
  const ScratchDirectory scratch;
  const mode_t mask = ::umask(022);
  std::atomic<bool> done = false;
  std::thread writer([&] {
    for (int i = 0; i < 200; ++i) OutputFile(scratch.file("out"), true).finish();
    done = true;
  });
  bool kept = true;
  while (!done) {
    const std::string path = scratch.file("own", "of the program's own");
    kept = kept && mode_of(path) == 0644;
    std::filesystem::remove(path);
  }
  writer.join();
  CHECK(kept);
  ::umask(mask);
}

TEST_CASE("links that lead nowhere are refused as outputs") {
  const ScratchDirectory scratch;
  std::filesystem::create_symlink("missing", scratch.file("dangling"));
  std::filesystem::create_symlink("loop", scratch.file("loop"));
  for (const char* name : {"dangling", "loop"}) {
    CHECK(code_of([&] { PendingFile(scratch.file(name), true); }) == ErrorCode::io);
    CHECK(std::filesystem::is_symlink(scratch.file(name)));
  }
  CHECK(scratch.entries() == 2);
}

}  // namespace
}  // namespace kvzip
