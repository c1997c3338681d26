// SPDX-License-Identifier: Apache-2.0
#include <sys/stat.h>
#include <sys/xattr.h>

#include <algorithm>
#include <fstream>

#include "codec/fail.hpp"
#include "formats/file_calls.hpp"
#include "formats/inputs.hpp"
#include "kvzip/io.hpp"

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

/// It may change at any time, and belongs to a host program whose other threads make files: so it is read, which Linux
/// can since 4.7 (proc(5)), and set for a moment only elsewhere.
unsigned file_mask() {
  constexpr std::string_view kField = "Umask:";
  std::ifstream status("/proc/thread-self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(kField)) return static_cast<unsigned>(std::stoul(line.substr(kField.size()), nullptr, 8));
  }
  const mode_t own = ::umask(077);
  ::umask(own);
  return own;
}

void require_file_unchanged(const WatchedFile& file) {
  struct stat now {};
  if (::fstat(file.fd, &now) != 0) return;
  // It was closed meanwhile, and the number is another file's.
  if (now.st_dev != file.status.st_dev || now.st_ino != file.status.st_ino) return;
  if (now.st_size < file.status.st_size) {
    fail_in(file.name, ErrorCode::truncated, "the file was cut at byte {} while it was read", now.st_size);
  }
  const timespec &then = file.status.st_mtim, &last = now.st_mtim;
  if (now.st_size != file.status.st_size || last.tv_sec != then.tv_sec || last.tv_nsec != then.tv_nsec) {
    fail_in(file.name, ErrorCode::io, "the file was written to while it was read");
  }
}

thread_local InputScope* innermost = nullptr;

}  // namespace

/// The scopes of a thread.
class ThreadInputs {
 public:
  static InputRecord* innermost_record() { return innermost != nullptr ? innermost->record_.get() : nullptr; }
  /// Where readers are made from what is opened, nothing elsewhere.
  static std::shared_ptr<InputRecord> opening() {
    return innermost != nullptr && innermost->opens_ ? innermost->record_ : nullptr;
  }
  template <typename F>
  static void for_each(F&& f) {
    for (const InputScope* scope = innermost; scope != nullptr; scope = scope->outer_) f(*scope->record_);
  }
};

InputScope::InputScope(bool opens) : record_(std::make_shared<InputRecord>()), outer_(innermost), opens_(opens) {
  innermost = this;
}

InputScope::~InputScope() {
  innermost = outer_;
}

DumpReader::DumpReader() {
  if (auto record = ThreadInputs::opening()) inputs_.push_back(std::move(record));
}

void DumpReader::reads_through(const DumpReader& inner) {
  for (const auto& record : inner.inputs_) {
    if (std::ranges::find(inputs_, record) == inputs_.end()) inputs_.push_back(record);
  }
}

void InputAccess::add(const InputAccess& other) {
  mode &= other.mode;
  groups_differ |= other.groups_differ || (group && other.group && *group != *other.group);
  if (other.group) group = other.group;
}

void InputRecord::add(const std::shared_ptr<const WatchedFile>& file, const InputAccess& access) {
  const std::lock_guard lock(mutex_);
  std::erase_if(open_, [](const auto& one) { return one.expired(); });
  open_.push_back(file);
  access_.add(access);
}

InputAccess InputRecord::access() const {
  const std::lock_guard lock(mutex_);
  return access_;
}

void InputRecord::forget() {
  const std::lock_guard lock(mutex_);
  access_ = {};
}

void InputRecord::require_unchanged() const {
  std::vector<std::shared_ptr<const WatchedFile>> open;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& one : open_) {
      if (auto file = one.lock()) open.push_back(std::move(file));
    }
  }
  for (const auto& file : open) require_file_unchanged(*file);
}

std::shared_ptr<const WatchedFile> watch_input(int fd, const std::string& name) {
  auto file = std::make_shared<WatchedFile>();
  file->fd = fd;
  file->name = name;
  if (::fstat(fd, &file->status) != 0) fail_errno(name, "examine");
  if (!S_ISREG(file->status.st_mode)) return nullptr;
  const InputAccess access{access_bits(fd, file->status.st_mode), file->status.st_gid};
  ThreadInputs::for_each([&](InputRecord& record) { record.add(file, access); });
  return file;
}

InputAccess input_access() {
  InputAccess all;
  ThreadInputs::for_each([&](const InputRecord& record) { all.add(record.access()); });
  return all;
}

void require_inputs_unchanged() {
  ThreadInputs::for_each([](const InputRecord& record) { record.require_unchanged(); });
}

void forget_inputs() {
  if (InputRecord* record = ThreadInputs::innermost_record()) record->forget();
}

InputAccess access_of(const InputList& inputs) {
  InputAccess all;
  for (const auto& record : inputs) all.add(record->access());
  return all;
}

void require_unchanged(const InputList& inputs) {
  for (const auto& record : inputs) record->require_unchanged();
}

unsigned access_bits(int fd, unsigned mode) {
  return without_mask(::fgetxattr(fd, kAccessList, nullptr, 0) > 0, mode);
}

unsigned access_bits(const std::string& path, unsigned mode) {
  return without_mask(::getxattr(path.c_str(), kAccessList, nullptr, 0) > 0, mode);
}

unsigned output_mode(unsigned group, std::optional<unsigned> replaced, InputAccess allowed) {
  constexpr unsigned kOwner = S_IRUSR | S_IWUSR;  // the writer itself has to
  unsigned mode = allowed.mode;
  // Members of another group were among the others.
  if (allowed.groups_differ || (allowed.group && *allowed.group != group)) mode &= ~0070u | (mode & 07) << 3;
  return (replaced.value_or(0666 & ~file_mask()) & mode & 0666) | kOwner;
}

}  // namespace kvzip
