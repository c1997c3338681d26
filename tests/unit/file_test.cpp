// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <thread>

#include "formats/file.hpp"
#include "kvzip/error.hpp"
#include "tests/unit/scratch_directory.hpp"

namespace kvzip {
namespace {

using test::content_of;
using test::ScratchDirectory;
using Access = OutputFile::Access;

template <typename F>
std::optional<ErrorCode> code_of(F&& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.code();
  }
  return std::nullopt;
}

ByteView view(std::string_view text) {
  return std::as_bytes(std::span(text));
}

std::string read_text(const InputFile& file, std::uint64_t offset, std::size_t size) {
  std::string text(size, '?');
  file.read_at(offset, std::as_writable_bytes(std::span(text)));
  return text;
}

/// Runs f in a child process and returns what waitpid says; an exception gives exit status 99.
template <typename F>
int in_child(F&& f) {
  const pid_t child = ::fork();
  if (child == 0) {
    try {
      f();
      ::_exit(0);
    } catch (...) {
      ::_exit(99);
    }
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return status;
}

void require(bool condition) {
  if (!condition) ::_exit(1);
}

bool has_unnamed_files(const ScratchDirectory& scratch) {
  return FileDescriptor(::open(scratch.file(".").c_str(), O_TMPFILE | O_RDWR, 0600)).get() >= 0;
}

unsigned mode_of(const std::string& path) {
  struct stat status {};
  REQUIRE(::stat(path.c_str(), &status) == 0);
  return status.st_mode & 0777;
}

/// Makes a file the child's standard input or output.
void redirect(const std::string& path, int flags, int fd) {
  const int opened = ::open(path.c_str(), flags, 0600);
  require(opened >= 0 && ::dup2(opened, fd) == fd);
}

TEST_CASE("positioned reads") {
  const ScratchDirectory scratch;
  InputFile file(scratch.file("a", "hello world"));
  CHECK(file.size() == 11);
  CHECK(read_text(file, 6, 5) == "world");
  CHECK(read_text(file, 11, 0).empty());
  CHECK(code_of([&] { read_text(file, 7, 5); }) == ErrorCode::truncated);
  CHECK(code_of([&] { read_text(file, 12, 0); }) == ErrorCode::truncated);
  CHECK(code_of([&] { read_text(file, ~std::uint64_t{0}, 5); }) == ErrorCode::truncated);
  CHECK(file.identity() == file_identity(scratch.file("a")));
  const InputFile moved = std::move(file);
  CHECK(read_text(moved, 0, 5) == "hello");
  CHECK(InputFile(moved.reopen_path()).identity() == moved.identity());
  scratch.file("a", "cut");
  CHECK(code_of([&] { read_text(moved, 6, 5); }) == ErrorCode::truncated);
}

TEST_CASE("inputs that are not there") {
  const ScratchDirectory scratch;
  CHECK(code_of([&] { InputFile(scratch.file("none")); }) == ErrorCode::io);
  CHECK(code_of([&] { InputFile(scratch.file(".")); }) == ErrorCode::io);
  CHECK_FALSE(file_identity(scratch.file("none")).has_value());
  try {
    InputFile(scratch.file("none"));
  } catch (const Error& error) {
    CHECK(error.what() == scratch.file("none") + ": cannot open: No such file or directory");
  }
}

TEST_CASE("positions beyond 4 GiB") {
  constexpr std::uint64_t kFar = (std::uint64_t{5} << 30) + 3;
  const ScratchDirectory scratch;
  {
    OutputFile out(scratch.file("a"), false, Access::positioned);
    out.write_at(kFar, view("end"));
    out.finish();
  }
  const InputFile file(scratch.file("a"));
  CHECK(file.size() == kFar + 3);
  CHECK(read_text(file, kFar, 3) == "end");
  CHECK(read_text(file, kFar - 2, 3) == std::string("\0\0e", 3));
}

TEST_CASE("a pipe is copied before it is read at positions") {
  const ScratchDirectory scratch;
  const std::string pipe = scratch.file("pipe");
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  const std::string content(300000, 'x');
  std::thread writer([&] { std::ofstream(pipe) << content << "end"; });
  InputFile file(pipe);
  writer.join();
  CHECK(file.size() == content.size() + 3);
  CHECK(read_text(file, content.size(), 3) == "end");
  const std::string copy = file.reopen_path();
  CHECK(content_of(copy) == content + "end");
  file.drop_name();
  CHECK_FALSE(std::filesystem::exists(copy));
  CHECK(read_text(file, content.size(), 3) == "end");
  CHECK(scratch.entries() == 1);
}

TEST_CASE("a stream can be looked at before it is read") {
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  const FileDescriptor in(ends[0]);
  {
    const FileDescriptor out(ends[1]);
    REQUIRE(::write(out.get(), "abcdefgh", 8) == 8);
  }
  InputStream stream(in.get(), "pipe");
  CHECK(stream.peek(3).size() == 3);
  CHECK(stream.peek(5).size() == 5);
  CHECK(stream.peek(2).size() == 2);
  CHECK(stream.peeked() == 5);
  CHECK(stream.position() == 0);
  std::string text(3, '?');
  CHECK(stream.read(std::as_writable_bytes(std::span(text))) == 3);
  CHECK(text == "abc");
  CHECK(stream.peek(100).size() == 5);
  text.assign(10, '?');
  CHECK(stream.read(std::as_writable_bytes(std::span(text))) == 5);
  CHECK(text == "defgh?????");
  CHECK(stream.position() == 8);
  CHECK(stream.read(std::as_writable_bytes(std::span(text))) == 0);
  CHECK(stream.peek(1).empty());
}

TEST_CASE("standard input") {
  const ScratchDirectory scratch;
  const std::string path = scratch.file("a", "hello world");
  const auto check = [](bool same_file, const std::string& expected) {
    require(stdin_stream().peek(4).size() == 4);
    const InputFile file = InputFile::spool_stdin();
    require(file.path() == "standard input");
    require(read_text(file, 0, file.size()) == expected);
    require(content_of(file.reopen_path()) == expected);
    struct stat status {};
    require(::fstat(0, &status) == 0 && (file.identity().inode == status.st_ino) == same_file);
  };
  CHECK(in_child([&] {
          redirect(path, O_RDONLY, 0);
          check(true, "hello world");
        }) == 0);
  CHECK(in_child([&] {
          redirect(path, O_RDONLY, 0);
          ::lseek(0, 2, SEEK_SET);
          check(false, "llo world");
        }) == 0);
  CHECK(in_child([&] {
          int ends[2];
          require(::pipe(ends) == 0 && ::write(ends[1], "hello world", 11) == 11);
          ::close(ends[1]);
          ::dup2(ends[0], 0);
          check(false, "hello world");
        }) == 0);
}

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
      PendingFile b(scratch.file("b"), false);
      TemporaryFile c(scratch.file("c"));
      const std::size_t before = scratch.entries();
      b.temporary_path();
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
  forget_inputs();
  CHECK(written("plain") == 0644);
  read("open", 0444);
  CHECK(written("of-open") == 0644);
  read("group", 0640);
  CHECK(written("of-group") == 0640);
  read("private", 0600);
  CHECK(written("of-private") == 0600);
  CHECK(written("plain") == 0600);  // what it replaces was more readable
  forget_inputs();
  CHECK(written("later") == 0644);
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

TEST_CASE("an input that changes while it is open is noticed") {
  const ScratchDirectory scratch;
  const std::string path = scratch.file("a", "0123456789");
  const timespec long_ago[2] = {{1000, 0}, {1000, 0}};
  const auto after = [&](auto&& change) {
    ::utimensat(AT_FDCWD, path.c_str(), long_ago, 0);
    const InputFile input(path);
    change();
    return code_of(require_inputs_unchanged);
  };
  CHECK_FALSE(after([] {}));
  CHECK_FALSE(after([&] { ::chmod(path.c_str(), 0600); }));
  CHECK(after([&] { ::truncate(path.c_str(), 5); }) == ErrorCode::truncated);
  CHECK(after([&] { scratch.file("a", "12345"); }) == ErrorCode::io);  // overwritten, as long as before
  CHECK(after([&] { scratch.file("a", "longer than it was"); }) == ErrorCode::io);
  // A new file of the name is another file: what was opened is still whole.
  CHECK_FALSE(after([&] { std::filesystem::rename(scratch.file("b", "b"), path); }));
  CHECK_FALSE(code_of(require_inputs_unchanged));  // nothing is open
}

}  // namespace
}  // namespace kvzip
