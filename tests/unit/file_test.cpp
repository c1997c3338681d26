// SPDX-License-Identifier: Apache-2.0
#include <filesystem>
#include <thread>

#include "tests/unit/file_support.hpp"

namespace kvzip {
namespace {

using namespace test;
using Access = OutputFile::Access;

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

TEST_CASE("an input that changes while it is open is noticed") {
  const ScratchDirectory scratch;
  const std::string path = scratch.file("a", "0123456789");
  const timespec long_ago[2] = {{1000, 0}, {1000, 0}};
  const InputScope inputs;
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
