// SPDX-License-Identifier: Apache-2.0
// Which files a program has read, so that none of them is lost to its outputs.
#include <sys/stat.h>

#include <algorithm>
#include <mutex>

#include "codec/fail.hpp"
#include "formats/file.hpp"
#include "formats/file_calls.hpp"

namespace kvzip {
namespace {

struct ReadFiles {
  std::mutex mutex;
  bool kept = false;
  std::vector<FileIdentity> all;
};
ReadFiles& read_files() {
  static ReadFiles& files = *new ReadFiles;
  return files;
}

}  // namespace

void keep_read_files() {
  const std::lock_guard lock(read_files().mutex);
  read_files().kept = true;
}

void note_read(int fd) {
  struct stat status {};
  if (::fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) return;
  const FileIdentity file{status.st_dev, status.st_ino};
  ReadFiles& files = read_files();
  const std::lock_guard lock(files.mutex);
  if (files.kept && std::ranges::find(files.all, file) == files.all.end()) files.all.push_back(file);
}

void refuse_read_file(const std::string& path) {
  const auto file = file_identity(path);
  ReadFiles& files = read_files();
  const std::lock_guard lock(files.mutex);
  if (file && std::ranges::find(files.all, *file) != files.all.end()) fail_same_file(path);
}

void fail_same_file(const std::string& path) {
  fail_in(path, ErrorCode::invalid_argument, "input and output are the same file");
}

}  // namespace kvzip
