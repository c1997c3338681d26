// SPDX-License-Identifier: Apache-2.0
// What tests of files share.
#pragma once

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <optional>
#include <string>
#include <string_view>

#include "formats/file.hpp"
#include "kvzip/error.hpp"
#include "tests/unit/scratch_directory.hpp"

namespace kvzip::test {

template <typename F>
std::optional<ErrorCode> code_of(F&& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.code();
  }
  return std::nullopt;
}

inline ByteView view(std::string_view text) {
  return std::as_bytes(std::span(text));
}

inline std::string read_text(const InputFile& file, std::uint64_t offset, std::size_t size) {
  std::string text(size, '?');
  file.read_at(offset, std::as_writable_bytes(std::span(text)));
  return text;
}

/// Runs f in a child process and returns what waitpid says; an exception gives exit status 99.
template <typename F>
int in_child(F&& f) {
  // ThreadSanitizer's _exit() writes out what waits in the parent's buffers.
  std::fflush(nullptr);
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

inline void require(bool condition) {
  if (!condition) ::_exit(1);
}

inline bool has_unnamed_files(const ScratchDirectory& scratch) {
  return FileDescriptor(::open(scratch.file(".").c_str(), O_TMPFILE | O_RDWR, 0600)).get() >= 0;
}

inline unsigned mode_of(const std::string& path) {
  struct stat status {};
  REQUIRE(::stat(path.c_str(), &status) == 0);
  return status.st_mode & 0777;
}

/// Makes a file the child's standard input or output.
inline void redirect(const std::string& path, int flags, int fd) {
  const int opened = ::open(path.c_str(), flags, 0600);
  require(opened >= 0 && ::dup2(opened, fd) == fd);
}

}  // namespace kvzip::test
