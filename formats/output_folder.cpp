// SPDX-License-Identifier: Apache-2.0
// Folders that are made for outputs.
#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstddef>
#include <filesystem>
#include <iterator>

#include "codec/fail.hpp"
#include "formats/file_calls.hpp"

namespace kvzip {
namespace {

namespace fs = std::filesystem;

constexpr mode_t kOwn = 0700;  // the writer itself has to get in

fs::path parent_of(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

void sync_folder(const fs::path& folder) {
  const FileDescriptor fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (fd.get() >= 0) flush_to_disk(fd.get(), folder.string());
}

/// Members of another group are among the others.
void close_to_others(const fs::path& folder, mode_t mode, gid_t group) {
  struct stat made {};
  if (::stat(folder.c_str(), &made) != 0) fail_errno(folder.string(), "examine");
  mode_t allowed = mode;
  if (made.st_gid != group) allowed &= static_cast<mode_t>(~070u | (mode & 07) << 3);
  allowed = (made.st_mode & allowed & 0777) | kOwn;
  if (allowed == (made.st_mode & 0777)) return;
  if (::chmod(folder.c_str(), allowed | (made.st_mode & 07000)) != 0)
    fail_errno(folder.string(), "set the permissions");
}

/// `depth`: how many folders above `like` are counterparts of those above `folder`.
void make_like(const fs::path& folder, const fs::path& like, std::ptrdiff_t depth) {
  std::error_code ignored;
  if (fs::is_directory(folder, ignored)) return;
  const fs::path parent = parent_of(folder);
  if (parent != folder) make_like(parent, depth > 0 ? parent_of(like) : like, depth - 1);
  struct stat source {};
  const bool known = ::stat(like.c_str(), &source) == 0;
  const mode_t mode = known ? access_bits(like.string(), source.st_mode) : mode_t{0777};
  if (::mkdir(folder.c_str(), mode | kOwn) == 0) {
    if (known) close_to_others(folder, mode, source.st_gid);
    sync_folder(parent);
    return;
  }
  const int reason = errno;  // another process may have made it
  if (fs::is_directory(folder, ignored)) return;
  errno = reason;
  fail_errno(folder.string(), "make this folder");
}

}  // namespace

void make_folder_of(const std::string& out, const std::string& in, const std::string& below) {
  fs::path like = parent_of(in);
  std::error_code ignored;
  if (!fs::is_directory(like, ignored)) like = parent_of(like);  // of a member, which stands in a file
  const fs::path inner(below);
  make_like(parent_of(out), like, std::distance(inner.begin(), inner.end()) - 1);
}

}  // namespace kvzip
