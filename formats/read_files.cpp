// SPDX-License-Identifier: Apache-2.0
// Which files a program has read, so that none of them is lost to its outputs.
#include <sys/stat.h>

#include <mutex>
#include <set>
#include <tuple>

#include "codec/fail.hpp"
#include "formats/file.hpp"
#include "formats/file_calls.hpp"

namespace kvzip {
namespace {

struct Before {
  bool operator()(const FileIdentity& a, const FileIdentity& b) const {
    return std::tie(a.device, a.inode) < std::tie(b.device, b.inode);
  }
};

struct ReadFiles {
  std::mutex mutex;
  bool kept = false;
  std::set<FileIdentity, Before> all;  // of a batch there may be very many
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
  if (files.kept) files.all.insert(file);
}

void refuse_read_file(const std::string& path) {
  const auto file = file_identity(path);
  ReadFiles& files = read_files();
  const std::lock_guard lock(files.mutex);
  if (file && files.all.contains(*file)) fail_same_file(path);
}

void fail_same_file(const std::string& path) {
  fail_in(path, ErrorCode::invalid_argument, "input and output are the same file");
}

}  // namespace kvzip
