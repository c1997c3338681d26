// SPDX-License-Identifier: Apache-2.0
// What inputs were when they were opened.
#include <sys/stat.h>
#include <sys/xattr.h>

#include <algorithm>
#include <mutex>

#include "codec/fail.hpp"
#include "formats/file.hpp"
#include "formats/file_calls.hpp"

namespace kvzip {

struct WatchedFile {
  int fd;
  std::string name;
  struct stat status;
};

namespace {

constexpr const char* kAccessList = "system.posix_acl_access";

unsigned without_mask(bool listed, unsigned mode) {
  return mode & 0777 & ~(listed ? 0070u : 0u);
}

struct Inputs {
  std::mutex mutex;
  std::vector<std::weak_ptr<const WatchedFile>> open;
  InputAccess access;
};
Inputs& inputs() {
  static Inputs& all = *new Inputs;
  return all;
}

/// Read by setting it, for a moment to a stricter one.
unsigned file_mask() {
  static const unsigned mask = [] {
    const mode_t own = ::umask(077);
    ::umask(own);
    return static_cast<unsigned>(own);
  }();
  return mask;
}

void require_unchanged(const WatchedFile& file) {
  struct stat now {};
  if (::fstat(file.fd, &now) != 0) return;
  if (now.st_size < file.status.st_size) {
    fail_in(file.name, ErrorCode::truncated, "the file was cut at byte {} while it was read", now.st_size);
  }
  const timespec &then = file.status.st_mtim, &last = now.st_mtim;
  if (now.st_size != file.status.st_size || last.tv_sec != then.tv_sec || last.tv_nsec != then.tv_nsec) {
    fail_in(file.name, ErrorCode::io, "the file was written to while it was read");
  }
}

}  // namespace

void InputAccess::add(const InputAccess& other) {
  mode &= other.mode;
  groups_differ |= other.groups_differ || (group && other.group && *group != *other.group);
  if (other.group) group = other.group;
}

std::shared_ptr<const WatchedFile> watch_input(int fd, const std::string& name) {
  auto file = std::make_shared<WatchedFile>();
  file->fd = fd;
  file->name = name;
  if (::fstat(fd, &file->status) != 0) fail_errno(name, "examine");
  if (!S_ISREG(file->status.st_mode)) return nullptr;
  Inputs& all = inputs();
  const std::lock_guard lock(all.mutex);
  std::erase_if(all.open, [](const auto& one) { return one.expired(); });
  all.open.push_back(file);
  all.access.add({access_bits(fd, file->status.st_mode), file->status.st_gid});
  return file;
}

unsigned access_bits(int fd, unsigned mode) {
  return without_mask(::fgetxattr(fd, kAccessList, nullptr, 0) > 0, mode);
}

unsigned access_bits(const std::string& path, unsigned mode) {
  return without_mask(::getxattr(path.c_str(), kAccessList, nullptr, 0) > 0, mode);
}

void forget_inputs() {
  Inputs& all = inputs();
  const std::lock_guard lock(all.mutex);
  all.access = {};
}

InputAccess input_access() {
  const std::lock_guard lock(inputs().mutex);
  return inputs().access;
}

void restrict_outputs(const InputAccess& access) {
  const std::lock_guard lock(inputs().mutex);
  inputs().access.add(access);
}

unsigned output_mode(unsigned group, std::optional<unsigned> replaced) {
  constexpr unsigned kOwner = S_IRUSR | S_IWUSR;  // the writer itself has to
  const InputAccess all = input_access();
  unsigned allowed = all.mode;
  // Members of another group were among the others.
  if (all.groups_differ || (all.group && *all.group != group)) allowed &= ~0070u | (allowed & 07) << 3;
  return (replaced.value_or(0666 & ~file_mask()) & allowed & 0666) | kOwner;
}

void require_inputs_unchanged() {
  std::vector<std::shared_ptr<const WatchedFile>> open;
  {
    Inputs& all = inputs();
    const std::lock_guard lock(all.mutex);
    for (const auto& one : all.open) {
      if (auto file = one.lock()) open.push_back(std::move(file));
    }
  }
  for (const auto& file : open) require_unchanged(*file);
}

}  // namespace kvzip
