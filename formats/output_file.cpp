// SPDX-License-Identifier: Apache-2.0
// Outputs: temporary names, their removal, and the move to the final name.
#include <fcntl.h>
#include <poll.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <system_error>

#include "codec/fail.hpp"
#include "formats/file.hpp"
#include "formats/file_calls.hpp"

namespace kvzip {
namespace {

constexpr std::size_t kCopyBytes = std::size_t{1} << 20;
constexpr std::size_t kSlots = 32;

/// Temporary names that a signal handler may unlink. Fixed storage, because a handler may not allocate or lock.
/// A file that finds no free slot is still removed by its destructor.
struct Slot {
  enum State : int { free, filling, active };
  std::atomic<int> state{free};
  std::array<char, PATH_MAX> path;
};
static_assert(std::atomic<int>::is_always_lock_free);
std::array<Slot, kSlots> g_slots;
std::atomic<bool> g_sync = true;

int register_temporary(const std::string& path) {
  if (path.size() >= PATH_MAX) return -1;
  for (std::size_t i = 0; i < kSlots; ++i) {
    int expected = Slot::free;
    if (!g_slots[i].state.compare_exchange_strong(expected, Slot::filling)) continue;
    std::memcpy(g_slots[i].path.data(), path.c_str(), path.size() + 1);
    g_slots[i].state.store(Slot::active);
    return static_cast<int>(i);
  }
  return -1;
}

void forget_temporary(int slot) {
  if (slot >= 0) g_slots[static_cast<std::size_t>(slot)].state.store(Slot::free);
}

extern "C" void remove_temporaries(int signal) {
  remove_unfinished_outputs();
  // SA_RESETHAND has restored the default action, which takes the process down once this handler returns.
  ::raise(signal);
}

std::string directory_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

std::string temporary_name(const std::string& path) {
  constexpr std::size_t kNameBytes = 200;  // leaves room for the suffix in the usual limit of 255
  const std::string name = path.substr(path.rfind('/') + 1).substr(0, kNameBytes);
  std::uint64_t random = 0;
  if (::getrandom(&random, sizeof random, 0) != sizeof random) fail_errno(path, "draw a name");
  return fmt::format("{}/.{}.kvzip-{:016x}", directory_of(path), name, random);
}

/// Follows symbolic links, so that an output replaces the file a link leads to and not the link.
std::string follow_links(const std::string& path) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0 || !S_ISLNK(status.st_mode)) return path;
  const std::unique_ptr<char, decltype(&std::free)> real(::realpath(path.c_str(), nullptr), &std::free);
  if (!real) fail_errno(path, "follow the symbolic link");
  return real.get();
}

[[noreturn]] void fail_exists(const std::string& path) {
  Error error(ErrorCode::invalid_argument, "exists already", Hint::overwrite);
  error.add_file(path);
  throw error;
}

/// Moves without replacing, in one step. False when the file system cannot do that.
bool move_if_absent(const std::string& from, const std::string& to, const std::string& shown) {
  if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0) return true;
  if (errno == EEXIST) fail_exists(shown);
  if (errno != EINVAL && errno != ENOSYS && errno != ENOTSUP) fail_errno(shown, "create");
  if (::link(from.c_str(), to.c_str()) == 0) {
    ::unlink(from.c_str());
    return true;
  }
  if (errno == EEXIST) fail_exists(shown);
  return false;
}

void wait_until(int fd, short event) {
  pollfd entry{fd, event, 0};
  ::poll(&entry, 1, -1);
}

}  // namespace

void flush_to_disk(int fd, const std::string& name) {
  if (!g_sync) return;
  while (::fsync(fd) != 0) {
    if (errno == EINTR) continue;
    if (errno == EINVAL || errno == ENOTSUP || errno == EROFS) return;
    fail_errno(name, "flush to disk");
  }
}

void require_stored(int fd, const std::string& name) {
  flush_to_disk(fd, name);
  // Network file systems, and those with quotas, may report the failure of earlier writes only when a descriptor is
  // closed: any, as each close(2) passes on what waits (Linux, Documentation/filesystems/vfs.rst, "flush").
  int closed = 0;
  do {
    const int copy = ::fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (copy < 0) fail_errno(name, "write");
    closed = ::close(copy);
  } while (closed != 0 && errno == EINTR);
  if (closed != 0) fail_errno(name, "write");
}

void fail_errno(std::string_view name, std::string_view action) {
  const std::string reason = std::generic_category().message(errno);
  fail_in(name, ErrorCode::io, "cannot {}: {}", action, reason);
}

std::size_t read_some(int fd, std::span<std::byte> out, std::string_view name) {
  for (;;) {
    const ssize_t got = ::read(fd, out.data(), out.size());
    if (got >= 0) return static_cast<std::size_t>(got);
    if (errno == EAGAIN) {
      wait_until(fd, POLLIN);
    } else if (errno != EINTR) {
      fail_errno(name, "read");
    }
  }
}

void write_all(int fd, ByteView bytes, std::string_view name) {
  while (!bytes.empty()) {
    const ssize_t put = ::write(fd, bytes.data(), bytes.size());
    if (put >= 0) {
      bytes = bytes.subspan(static_cast<std::size_t>(put));
    } else if (errno == EAGAIN) {
      wait_until(fd, POLLOUT);
    } else if (errno != EINTR) {
      fail_errno(name, "write");
    }
  }
}

void write_all_at(int fd, std::uint64_t offset, ByteView bytes, std::string_view name) {
  constexpr std::uint64_t kEnd = std::numeric_limits<off_t>::max();
  if (offset > kEnd || bytes.size() > kEnd - offset) fail_in(name, ErrorCode::limit, "larger than any file can be");
  while (!bytes.empty()) {
    const ssize_t put = ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) fail_errno(name, "write");
    bytes = bytes.subspan(static_cast<std::size_t>(put));
    offset += static_cast<std::uint64_t>(put);
  }
}

bool is_standard_output(std::string_view path) {
  return path == "-" || path == "/dev/stdout" || path == "/dev/fd/1" || path == "/proc/self/fd/1";
}

bool is_stream_output(const std::string& path) {
  struct stat status {};
  if (is_standard_output(path)) return true;
  return ::stat(path.c_str(), &status) == 0 && !S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode);
}

TemporaryFile::TemporaryFile(const std::string& path) : beside_(path) {
  fd_ = FileDescriptor(::open(directory_of(path).c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (fd_.get() >= 0) {
    path_ = fmt::format("/proc/self/fd/{}", fd_.get());
    if (::access(path_.c_str(), F_OK) == 0) return;  // it cannot be given a name where /proc is missing
  }
  constexpr int kAttempts = 16;
  for (int i = 0; i < kAttempts; ++i) {
    path_ = temporary_name(path);
    // Registered first: a signal between the two calls must not leave the file behind.
    slot_ = register_temporary(path_);
    fd_ = FileDescriptor(::open(path_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    named_ = fd_.get() >= 0;
    if (named_) return;
    const int error = errno;
    forget_temporary(slot_);
    errno = error;
    if (error != EEXIST) break;
  }
  fail_errno(path, "create");
}

TemporaryFile::~TemporaryFile() {
  if (named_) ::unlink(path_.c_str());
  forget_temporary(slot_);
}

std::unique_ptr<Sink> TemporaryFile::sink() const {
  class Appender final : public Sink {
   public:
    Appender(int fd, std::string name) : fd_(fd), name_(std::move(name)) {}
    void append(ByteView bytes) override { write_all(fd_, bytes, name_); }

   private:
    int fd_;
    std::string name_;
  };
  return std::make_unique<Appender>(fd_.get(), "temporary file in " + directory_of(beside_));
}

InputFile TemporaryFile::input(std::string name) const {
  FileDescriptor own(::fcntl(fd_.get(), F_DUPFD_CLOEXEC, 0));
  if (own.get() < 0) fail_errno(name, "open");
  return {std::move(own), std::move(name)};
}

const std::string& TemporaryFile::real_path() {
  if (!named_) give_name();
  return path_;
}

void TemporaryFile::give_name() {
  const std::string from = std::exchange(path_, temporary_name(beside_));
  slot_ = register_temporary(path_);
  named_ = ::linkat(AT_FDCWD, from.c_str(), AT_FDCWD, path_.c_str(), AT_SYMLINK_FOLLOW) == 0;
  if (!named_) fail_errno(beside_, "create");
}

void TemporaryFile::move_to(const std::string& path, bool overwrite, unsigned mode) {
  if (::fchmod(fd_.get(), mode) != 0 && errno != ENOTSUP && errno != EPERM) fail_errno(path, "set the permissions");
  require_stored(fd_.get(), path);
  const bool linked = !named_ && ::linkat(AT_FDCWD, path_.c_str(), AT_FDCWD, path.c_str(), AT_SYMLINK_FOLLOW) == 0;
  if (!linked) {
    if (!named_ && errno == EEXIST && !overwrite) fail_exists(path);
    if (!named_) give_name();
    if (overwrite || !move_if_absent(path_, path, path)) {
      if (!overwrite && file_identity(path)) fail_exists(path);
      if (::rename(path_.c_str(), path.c_str()) != 0) fail_errno(path, "create");
    }
  }
  named_ = false;
  forget_temporary(std::exchange(slot_, -1));
  const std::string directory = directory_of(path);
  const FileDescriptor fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (fd.get() >= 0) flush_to_disk(fd.get(), directory);
}

void sync_outputs(bool wanted) {
  g_sync = wanted;
}

PendingFile::PendingFile(const std::string& path, bool overwrite)
    : path_(path), target_(follow_links(path)), overwrite_(overwrite) {
  if (path.empty()) fail(ErrorCode::invalid_argument, "the output has no name");
  struct stat status {};
  const std::string folder = directory_of(target_);
  if (::stat(folder.c_str(), &status) != 0 && errno == ENOENT)
    fail_in(folder, ErrorCode::io, "there is no such folder");
  const bool exists = ::lstat(target_.c_str(), &status) == 0;
  if (exists && S_ISDIR(status.st_mode)) fail_in(path, ErrorCode::io, "is a directory");
  if (exists && !overwrite) fail_exists(path);
  if (exists) refuse_read_file(path);
  temporary_.emplace(target_);
  // A file that replaces another is readable by no more people.
  if (exists && S_ISREG(status.st_mode)) replaced_ = access_bits(target_, status.st_mode);
}

void PendingFile::commit() {
  require_inputs_unchanged();
  require_unchanged(inputs_);
  if (overwrite_) refuse_read_file(path_);  // it may have been read since
  struct stat status {};
  if (::fstat(temporary_->descriptor(), &status) != 0) fail_errno(path_, "examine");
  InputAccess allowed = input_access();
  allowed.add(access_of(inputs_));
  allowed.add(access_);
  temporary_->move_to(target_, overwrite_, output_mode(status.st_gid, replaced_, allowed));
}

OutputFile::OutputFile(Destination to, Access access) : path_(std::move(to.path)), sink_(std::move(to.sink)) {
  collects_ = access == Access::positioned;
  if (sink_) {
    if (collects_) collect();
  } else if (is_stream_output(path_)) {
    open_stream();
  } else {
    pending_.emplace(path_, to.overwrite);
    fd_ = pending_->descriptor();
    collects_ = false;
  }
  seekable_ = pending_ || collects_;
}

void OutputFile::open_stream() {
  to_stdout_ = is_standard_output(path_);
  if (to_stdout_) path_ = "standard output";
  stream_ = FileDescriptor(to_stdout_ ? ::fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 0)
                                      : ::open(path_.c_str(), O_WRONLY | O_CLOEXEC | O_NOCTTY));
  if (stream_.get() < 0) fail_errno(path_, "open");
  if (::isatty(stream_.get()) != 0) {
    fail_in(path_, ErrorCode::invalid_argument, "is a terminal, and the output is binary: name a file or redirect it");
  }
  if (collects_) collect();
}

void OutputFile::collect() {
  own_ = unnamed_temporary_file();
  fd_ = own_.get();
}

void OutputFile::pass_on(ByteView bytes) {
  if (sink_) return sink_->append(bytes);
  write_all(stream_.get(), bytes, path_);
}

void OutputFile::append(ByteView bytes) {
  if (seekable_) {
    write_all_at(fd_, position_, bytes, path_);
  } else {
    pass_on(bytes);
  }
  position_ += bytes.size();
}

void OutputFile::write_at(std::uint64_t offset, ByteView bytes) {
  if (!seekable_) fail_in(path_, ErrorCode::invalid_argument, "can only be written from front to back");
  write_all_at(fd_, offset, bytes, path_);
}

void OutputFile::finish() {
  if (pending_) return pending_->commit();
  require_inputs_unchanged();
  require_unchanged(inputs_);
  if (collects_) {
    std::vector<std::byte> buffer(kCopyBytes);
    if (::lseek(fd_, 0, SEEK_SET) != 0) fail_errno(path_, "read back the temporary copy");
    while (const std::size_t got = read_some(fd_, buffer, path_)) pass_on({buffer.data(), got});
  }
  if (sink_) return sink_->finish();
  // A network file reports the failure of earlier writes only when it is closed.
  if (::close(stream_.release()) != 0) fail_errno(path_, "write");
}

void remove_unfinished_outputs() noexcept {
  for (const Slot& slot : g_slots) {
    if (slot.state.load() == Slot::active) ::unlink(slot.path.data());
  }
}

void install_signal_cleanup() {
  for (const int signal :
       {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGXCPU, SIGALRM, SIGVTALRM, SIGPROF, SIGUSR1, SIGUSR2, SIGPOLL}) {
    struct sigaction action {};
    if (::sigaction(signal, nullptr, &action) != 0 || action.sa_handler == SIG_IGN) continue;  // nohup stays nohup
    action = {};
    action.sa_handler = remove_temporaries;
    action.sa_flags = static_cast<int>(SA_RESETHAND);
    ::sigemptyset(&action.sa_mask);
    ::sigaction(signal, &action, nullptr);
  }
  ::signal(SIGPIPE, SIG_IGN);
  ::signal(SIGXFSZ, SIG_IGN);
}

}  // namespace kvzip
