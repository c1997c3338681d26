// SPDX-License-Identifier: Apache-2.0
#include "formats/file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "codec/fail.hpp"
#include "formats/collection.hpp"
#include "formats/file_calls.hpp"

namespace kvzip {
namespace {

constexpr std::size_t kCopyBytes = std::size_t{1} << 20;

FileDescriptor duplicate(int fd, const std::string& name) {
  const int copy = ::fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (copy < 0) fail_errno(name, "open");
  return FileDescriptor(copy);
}

std::function<Progress(const std::string& name)>& copies_watch() {
  static std::function<Progress(const std::string& name)> watch;
  return watch;
}

std::unique_ptr<TemporaryFile> spool(InputStream& in, std::uint64_t most) {
  auto out = std::make_unique<TemporaryFile>(temporary_directory() + "/input");
  const std::string name = "temporary copy of " + in.name() + " in " + temporary_directory();
  struct stat status {};
  const bool device = ::fstat(in.descriptor(), &status) == 0 && S_ISCHR(status.st_mode);
  if (most == kUnbounded && device && ::isatty(in.descriptor()) == 0 && !in.peek(1).empty()) {
    fail_in(in.name(), ErrorCode::invalid_argument, "is a device, of which nobody knows where it ends");
  }
  const Progress progress = copies_watch() ? copies_watch()(in.name()) : Progress{};
  std::vector<std::byte> buffer(kCopyBytes);
  std::uint64_t left = most == kUnbounded ? most : most + 1, done = 0;
  for (bool all = false; !all;) {
    buffer.resize(std::min<std::uint64_t>(left, buffer.size()));
    const std::size_t got = in.read(buffer);
    write_all(out->descriptor(), {buffer.data(), got}, name);
    left -= got;
    done += got;
    all = got < buffer.size() || left == 0;
    if (progress) progress(done, all ? done : 0);
  }
  return out;
}

}  // namespace

FileDescriptor::~FileDescriptor() {
  if (fd_ >= 0) ::close(fd_);
}

std::optional<FileIdentity> file_identity(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return std::nullopt;
  return FileIdentity{status.st_dev, status.st_ino};
}

std::optional<std::uint64_t> stored_bytes(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) == 0) {
    return S_ISREG(status.st_mode) ? std::optional(static_cast<std::uint64_t>(status.st_size)) : std::nullopt;
  }
  const auto all = errno == ENOTDIR ? collection_of(path) : std::nullopt;
  const auto member = all ? find_member(InputFile(*all), path.substr(path.rfind('/') + 1)) : std::nullopt;
  return member ? std::optional(member->bytes) : std::nullopt;
}

void watch_copies(std::function<Progress(const std::string& name)> watch) {
  copies_watch() = std::move(watch);
}

std::string temporary_directory() {
  const char* directory = std::getenv("TMPDIR");
  std::string path = directory != nullptr && *directory != '\0' ? directory : "/tmp";
  if (::access(path.c_str(), W_OK | X_OK) != 0) {
    fail_in(path, ErrorCode::io, "temporary files cannot be made here ({}): TMPDIR names another folder",
            std::strerror(errno));
  }
  return path;
}

FileDescriptor unnamed_temporary_file() {
  const std::string directory = temporary_directory();
  const int fd = ::open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (fd >= 0) return FileDescriptor(fd);
  const TemporaryFile named(directory + "/spool");  // a file system without O_TMPFILE
  return duplicate(named.descriptor(), directory);
}

InputFile::InputFile(const std::string& path, const Look& look) : fd_(open_to_read(path)), path_(path), named_(true) {
  if (fd_.get() < 0 && errno == ENOTDIR) {
    open_member();
    return;
  }
  if (fd_.get() < 0) fail_errno(path, "open");
  struct stat status {};
  if (::fstat(fd_.get(), &status) != 0) fail_errno(path, "examine");
  if (S_ISDIR(status.st_mode)) fail_in(path, ErrorCode::io, "is a directory");
  note_read(fd_.get());
  if (!S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode)) {
    InputStream stream(fd_.get(), path);
    copy_ = spool(stream, look(stream));
    fd_ = duplicate(copy_->descriptor(), path);
  }
  inspect();
  if (!copy_) watch();
}

InputFile::InputFile(FileDescriptor fd, std::string name) : fd_(std::move(fd)), path_(std::move(name)) {
  inspect();
}

InputFile::InputFile(InputFile file, std::uint64_t begin, std::uint64_t bytes, std::string name)
    : InputFile(std::move(file)) {
  path_ = std::move(name);
  named_ = true;
  begin_ += begin;
  size_ = bytes;
}

void InputFile::open_member() {
  const std::string path = path_;
  const std::optional<std::string> all = collection_of(path);
  if (!all) {
    errno = ENOTDIR;
    fail_errno(path, "open");
  }
  InputFile file(*all);
  const auto member = find_member(file, path.substr(path.rfind('/') + 1));
  if (!member) fail_in(path, ErrorCode::io, "no member of this name is in the collection");
  *this = InputFile(std::move(file), member->begin, member->bytes, path);
}

namespace {

class MemorySource final : public Source {
 public:
  explicit MemorySource(ByteView bytes) : bytes_(bytes) {}
  std::uint64_t size() const override { return bytes_.size(); }
  void read_at(std::uint64_t offset, std::span<std::byte> out) const override {
    std::copy_n(bytes_.begin() + static_cast<std::ptrdiff_t>(offset), out.size(), out.begin());
  }

 private:
  ByteView bytes_;
};

}  // namespace

InputFile::InputFile(std::unique_ptr<const Source> source, std::string name)
    : source_(std::move(source)), path_(std::move(name)), size_(source_->size()) {}

InputFile::InputFile(ByteView bytes, std::string name)
    : InputFile(std::make_unique<MemorySource>(bytes), std::move(name)) {}

InputFile::InputFile(InputFile&&) noexcept = default;
InputFile& InputFile::operator=(InputFile&&) noexcept = default;
InputFile::~InputFile() = default;

void InputFile::drop_name() {
  copy_.reset();
}

std::optional<InputFile> InputFile::whole_stdin() {
  const InputStream& in = stdin_stream();
  struct stat status {};
  const int fd = in.descriptor();
  const bool regular = ::fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
  // Looking at the first bytes has moved the descriptor by as much as is now peeked; a file some other process has
  // read into has moved further and must be copied.
  if (!regular || in.position() != 0 || ::lseek(fd, 0, SEEK_CUR) != static_cast<off_t>(in.peeked())) return {};
  InputFile file(duplicate(fd, in.name()), in.name());
  file.watch();
  return file;
}

InputFile InputFile::spool_stdin(std::uint64_t most) {
  InputStream& in = stdin_stream();
  refuse_terminal(in);
  if (auto file = whole_stdin()) return std::move(*file);
  std::unique_ptr<TemporaryFile> copy = spool(in, most);
  InputFile file(duplicate(copy->descriptor(), in.name()), in.name());
  file.copy_ = std::move(copy);
  return file;
}

void InputFile::inspect() {
  struct stat status {};
  if (::fstat(fd_.get(), &status) != 0) fail_errno(path_, "examine");
  const off_t end = S_ISREG(status.st_mode) ? status.st_size : ::lseek(fd_.get(), 0, SEEK_END);
  if (end < 0) fail_errno(path_, "find the size");
  size_ = static_cast<std::uint64_t>(end);
  identity_ = {status.st_dev, status.st_ino};
}

void InputFile::watch() {
  watched_ = watch_input(fd_.get(), path_);
}

InputStream InputFile::stream(std::uint64_t at, std::uint64_t bytes, std::string name) const {
  if (::lseek(fd_.get(), static_cast<off_t>(begin_ + at), SEEK_SET) < 0) fail_errno(path_, "read");
  return {fd_.get(), std::move(name), bytes};
}

std::string InputFile::reopen_path() const {
  if (copy_) return copy_->path();
  return named_ ? path_ : fmt::format("/proc/self/fd/{}", fd_.get());
}

void InputFile::read_at(std::uint64_t offset, std::span<std::byte> out) const {
  if (offset > size_ || out.size() > size_ - offset) {
    fail_in(path_, ErrorCode::truncated, "the file ends at byte {}, but {} bytes are needed at {}", size_, out.size(),
            offset);
  }
  if (source_) return source_->read_at(offset, out);
  while (!out.empty()) {
    const ssize_t got = ::pread(fd_.get(), out.data(), out.size(), static_cast<off_t>(begin_ + offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail_errno(path_, "read");
    if (got == 0) fail_in(path_, ErrorCode::truncated, "the file was cut at byte {} while it was read", offset);
    out = out.subspan(static_cast<std::size_t>(got));
    offset += static_cast<std::uint64_t>(got);
  }
}

std::size_t InputStream::take(std::span<std::byte> out) {
  const std::size_t got = read_some(fd_, out.first(std::min<std::uint64_t>(out.size(), left_)), name_);
  left_ -= got;
  return got;
}

std::span<const std::byte> InputStream::peek(std::size_t n) {
  if (peeked() >= n) return {peeked_.data() + front_, n};
  peeked_.erase(peeked_.begin(), peeked_.begin() + static_cast<std::ptrdiff_t>(std::exchange(front_, 0)));
  // Room for what was asked for is made as the input brings it.
  while (peeked_.size() < n) {
    const std::size_t had = peeked_.size();
    peeked_.resize(std::min(n, had + kCopyBytes));
    const std::size_t got = take(std::span(peeked_).subspan(had));
    peeked_.resize(had + got);
    if (got == 0) break;
  }
  return peeked_;
}

std::size_t InputStream::read(std::span<std::byte> out) {
  std::size_t done = std::min(out.size(), peeked());
  std::copy_n(peeked_.begin() + static_cast<std::ptrdiff_t>(front_), done, out.begin());
  front_ += done;
  if (front_ == peeked_.size()) peeked_.clear(), front_ = 0;
  while (done < out.size()) {
    const std::size_t got = take(out.subspan(done));
    if (got == 0) break;
    done += got;
  }
  position_ += done;
  return done;
}

void read_pieces(const std::string& path, const std::function<void(std::string_view)>& take) {
  FileDescriptor own;
  if (path != "-") own = open_to_read(path);
  if (path != "-" && own.get() < 0) fail_errno(path, "open");
  if (path != "-") note_read(own.get());
  InputStream named(own.get(), path);
  InputStream& in = path == "-" ? stdin_stream() : named;
  std::string piece(kCopyBytes, '\0');
  for (std::size_t got = piece.size(); got == piece.size();) {
    got = in.read(std::as_writable_bytes(std::span(piece)));
    take(std::string_view(piece).substr(0, got));
  }
}

std::string read_text(const std::string& path, std::uint64_t most, std::string_view what) {
  std::string text;
  read_pieces(path, [&](std::string_view piece) {
    // What is no text, as a device that gives zeros, is not read up to the limit.
    if (const std::size_t zero = piece.find('\0'); zero != piece.npos) {
      text += piece.substr(0, zero);
      fail(ErrorCode::invalid_argument, "line {}: a zero byte, so this is not {}",
           1 + std::count(text.begin(), text.end(), '\n'), what);
    }
    if (piece.size() > most - text.size()) fail(ErrorCode::limit, "too long for {}", what);
    text += piece;
  });
  return text;
}

void refuse_terminal(const InputStream& in) {
  if (::isatty(in.descriptor()) == 0) return;
  fail_in(in.name(), ErrorCode::invalid_argument, "is a terminal: name a file or redirect it");
}

InputStream& stdin_stream() {
  static InputStream stream = [] {
    note_read(STDIN_FILENO);
    return InputStream(STDIN_FILENO, "standard input");
  }();
  return stream;
}

}  // namespace kvzip
