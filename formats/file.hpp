// SPDX-License-Identifier: Apache-2.0
// Files as the operating system gives them, and what stands in for one: positioned reads, standard input, and outputs
// that appear only when they are complete.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "formats/inputs.hpp"
#include "kvzip/io.hpp"

namespace kvzip {

/// Owns a file descriptor.
class FileDescriptor {
 public:
  explicit FileDescriptor(int fd = -1) : fd_(fd) {}
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~FileDescriptor();
  int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

/// Two names with the same identity are the same file.
struct FileIdentity {
  std::uint64_t device = 0, inode = 0;
  bool operator==(const FileIdentity&) const = default;
};
/// No value when there is no such file.
std::optional<FileIdentity> file_identity(const std::string& path);
/// From now on no output of this process replaces a file that it has read: for a program that does one thing and ends.
/// A library's host may well write what it has read before.
void keep_read_files();
/// fail(invalid_argument) where `path` is a file that was read since then.
void refuse_read_file(const std::string& path);
[[noreturn]] void fail_same_file(const std::string& path);
/// The length of a regular file, or of a member of a collection; no value for anything else.
std::optional<std::uint64_t> stored_bytes(const std::string& path);

/// True for "-" and the names of the process's own standard output.
bool is_standard_output(std::string_view path);

class TemporaryFile;
class InputStream;

/// Shown the first bytes of what has no length, as a pipe: refuses what they cannot begin, and says how many bytes
/// there can be in all. One more than that is still taken, so that whoever reads them sees that there are too many.
using Look = std::function<std::uint64_t(InputStream&)>;
inline constexpr std::uint64_t kUnbounded = ~std::uint64_t{0};

/// A file to read at any position. A pipe is copied to a temporary file first. FILE/NAME is a member of a collection
/// (formats/collection.hpp).
class InputFile {
 public:
  /// A pipe's bytes are taken unseen until they end: only for what is known to be a regular file.
  explicit InputFile(const std::string& path) : InputFile(path, [](InputStream&) { return kUnbounded; }) {}
  InputFile(const std::string& path, const Look& look);
  /// Takes over an open descriptor of a seekable file; `name` stands for it in messages.
  InputFile(FileDescriptor fd, std::string name);
  /// Stands for a file: size() and read_at() are the source's.
  InputFile(std::unique_ptr<const Source> source, std::string name);
  /// Memory, which must outlive the object.
  InputFile(ByteView bytes, std::string name);
  /// A part of a file that has a descriptor. `name` opens it again.
  InputFile(InputFile file, std::uint64_t begin, std::uint64_t bytes, std::string name);
  InputFile(InputFile&&) noexcept;
  InputFile& operator=(InputFile&&) noexcept;
  ~InputFile();
  /// Standard input where that is a regular file of which nothing was taken yet.
  static std::optional<InputFile> whole_stdin();
  /// That, or what is left of stdin_stream(), `most` bytes and one more, copied to a temporary file.
  static InputFile spool_stdin(std::uint64_t most = kUnbounded);

  const std::string& path() const { return path_; }
  std::uint64_t size() const { return size_; }
  FileIdentity identity() const { return identity_; }
  /// Of the whole file, of which a member is a part.
  int descriptor() const { return fd_.get(); }
  /// Its bytes from `at` on, at most so many. One stream of a descriptor at a time.
  InputStream stream(std::uint64_t at, std::uint64_t bytes, std::string name) const;
  /// A path by which a library can open the same file while this object lives; not of a source.
  std::string reopen_path() const;
  /// Takes a temporary copy's name away, so that nothing can be left behind however the process ends. The content
  /// stays readable here, but not by reopen_path().
  void drop_name();

  /// Fills `out`; fail(truncated) when the file ends before that. Any thread.
  void read_at(std::uint64_t offset, std::span<std::byte> out) const;

 private:
  void inspect();
  void watch();
  void open_member();

  FileDescriptor fd_;
  std::unique_ptr<const Source> source_;  // in place of fd_
  std::shared_ptr<const WatchedFile> watched_;
  std::string path_;
  bool named_ = false;
  std::unique_ptr<TemporaryFile> copy_;
  std::uint64_t begin_ = 0, size_ = 0;
  FileIdentity identity_;
};

/// A file, a pipe or (as "-") standard input from front to back, piece by piece; the last one may be empty.
void read_pieces(const std::string& path, const std::function<void(std::string_view)>& take);
/// The whole of a file, a pipe or (as "-") standard input;
/// fail(limit) for more than `most` bytes, "too long for WHAT", and fail(invalid_argument) at the first zero byte.
std::string read_text(const std::string& path, std::uint64_t most, std::string_view what);

/// A descriptor read once from front to back, whose first bytes can be looked at before they are taken.
class InputStream {
 public:
  /// `bytes`: no more are read, whatever follows.
  InputStream(int fd, std::string name, std::uint64_t bytes = ~std::uint64_t{0})
      : fd_(fd), name_(std::move(name)), left_(bytes) {}
  const std::string& name() const { return name_; }
  /// The next bytes, without taking them; fewer than n only at the end of the input. Valid until the next call.
  std::span<const std::byte> peek(std::size_t n);
  /// Bytes looked at and not yet taken.
  std::size_t peeked() const { return peeked_.size() - front_; }
  /// Takes bytes; returns how many, fewer than asked for only at the end of the input.
  std::size_t read(std::span<std::byte> out);
  /// Bytes taken so far.
  std::uint64_t position() const { return position_; }
  int descriptor() const { return fd_; }

 private:
  int fd_;
  std::string name_;
  std::size_t take(std::span<std::byte> out);

  std::vector<std::byte> peeked_;
  std::size_t front_ = 0;  // of what is peeked and not taken
  std::uint64_t position_ = 0, left_;
};
/// The process's standard input: whoever looks at its first bytes and whoever reads on share this one object.
InputStream& stdin_stream();
/// For what nobody types: fail(invalid_argument) where the input is a terminal.
void refuse_terminal(const InputStream& in);

/// A file that only this user can open. Where the file system can, it has no name, and nothing is left of it however
/// the process ends; else a name nobody can guess, which is removed with the object and when a signal ends the process.
class TemporaryFile {
 public:
  /// In the directory of `path`; a name is `.NAME.kvzip-RANDOM`. Created empty.
  explicit TemporaryFile(const std::string& path);
  ~TemporaryFile();
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  /// What opens it while the object lives.
  const std::string& path() const { return path_; }
  /// The same for libraries that ask where a file really stands: it has a name from now on.
  const std::string& real_path();
  int descriptor() const { return fd_.get(); }
  /// Appends; for one writer.
  std::unique_ptr<Sink> sink() const;
  /// What is there now. It stays readable when the object goes.
  InputFile input(std::string name) const;
  /// Flushes the file to the disk and moves it, once all of it is stored, to `path`, which must not exist unless
  /// `overwrite`, with these permissions.
  void move_to(const std::string& path, bool overwrite, unsigned mode);

 private:
  void give_name();

  std::string path_, beside_;
  FileDescriptor fd_;
  int slot_ = -1;
  bool named_ = false;
};

/// Whether a finished output, and the name it gets, are flushed to the disk before the process goes on; they are at
/// first.
void sync_outputs(bool wanted);

/// Makes what tells how far the copy of a pipe with this name is: of `total` bytes, 0 until the end is known. For the
/// whole process; nothing is told at first.
void watch_copies(std::function<Progress(const std::string& name)> watch);
/// Told after each second in which nobody has a named pipe open for writing that is to be read. Should it throw, the
/// pipe is given up.
void watch_waits(std::function<void(const std::string& name, unsigned seconds)> watch);

/// $TMPDIR, or /tmp; fail(io) where nothing can be made in it.
std::string temporary_directory();

/// An output under construction: written beside its final name and given that name by commit(), with permissions no
/// wider than those of inputs: so a cache that only its owner may read does not become readable by being converted. For
/// writers that hand a descriptor to a library; OutputFile is for the others.
class PendingFile {
 public:
  /// fail(invalid_argument) when `path` exists and `overwrite` is not given. `path` is not a device or pipe.
  PendingFile(const std::string& path, bool overwrite);
  int descriptor() const { return temporary_->descriptor(); }
  /// What opens it, and what is there now.
  const std::string& path() const { return temporary_->path(); }
  InputFile input() const { return temporary_->input(path_); }
  /// Beside those that the scopes of this thread have noted when it is committed.
  void made_from(const InputList& inputs) { inputs_.insert(inputs_.end(), inputs.begin(), inputs.end()); }
  void restrict_to(const InputAccess& access) { access_.add(access); }
  /// fail(truncated) or fail(io) where one of those inputs, or of this thread's, is not what it was when it was opened.
  void commit();

 private:
  std::string path_, target_;         // target_: path_ with symbolic links followed
  std::optional<unsigned> replaced_;  // permissions of the file that it replaces
  InputList inputs_;
  InputAccess access_;
  bool overwrite_;
  std::optional<TemporaryFile> temporary_;
};

/// True when `path` is standard output or an existing device or pipe: bytes go straight there, with no temporary name.
bool is_stream_output(const std::string& path);

/// Where an output goes: a path, or a sink and what it is called in messages.
struct Destination {
  std::string path;
  bool overwrite = false;
  std::unique_ptr<Sink> sink{};

  Destination(std::string to, bool replaces) : path(std::move(to)), overwrite(replaces) {}
  explicit Destination(std::unique_ptr<Sink> to) : path("the output"), sink(std::move(to)) {}
};

/// An output file. Regular files appear under their name only in finish(); streams get their bytes at once, or in
/// finish() when the writer needs positions.
class OutputFile {
 public:
  enum class Access : std::uint8_t { sequential, positioned };

  /// fail(invalid_argument) when `path` exists and `overwrite` is not given, or when it is a terminal.
  explicit OutputFile(Destination to, Access access = Access::sequential);
  OutputFile(const std::string& path, bool overwrite, Access access = Access::sequential)
      : OutputFile(Destination(path, overwrite), access) {}

  const std::string& path() const { return path_; }
  /// Where the next append() goes.
  std::uint64_t position() const { return position_; }
  void append(ByteView bytes);
  /// Needs Access::positioned. Does not move position().
  void write_at(std::uint64_t offset, ByteView bytes);
  void made_from(const InputList& inputs) {
    if (pending_) return pending_->made_from(inputs);
    inputs_.insert(inputs_.end(), inputs.begin(), inputs.end());
  }
  /// Completes the output and gives it its name. Without it a regular file never appears. Fails as
  /// PendingFile::commit() where an input is not what it was.
  void finish();

 private:
  void open_stream();
  void collect();
  void pass_on(ByteView bytes);

  std::string path_;
  std::optional<PendingFile> pending_;
  FileDescriptor own_;          // a device or pipe, or the unnamed file that collects positioned writes
  FileDescriptor stream_;       // where the collected bytes go: a device or pipe,
  std::unique_ptr<Sink> sink_;  // or this
  InputList inputs_;            // of a stream; a pending file has its own
  int fd_ = -1;
  bool seekable_ = true, collects_ = false, to_stdout_ = false;
  std::uint64_t position_ = 0;
};

/// Makes the folder of `out` and those that it stands in, where they are missing. `below` is what of the path the input
/// has in common, "x/y/a.safetensors": each of these folders, and the one that `below` stands in, opens to no more
/// people than the input's. What is made survives as outputs do (sync_outputs()).
void make_folder_of(const std::string& out, const std::string& in, const std::string& below);

/// Removes unfinished outputs when a signal that can be caught ends the process, and turns writing to a closed pipe, or
/// beyond the limit of a file's size, into an Error. Call once, at the start of main.
void install_signal_cleanup();
/// Takes their names away now. Safe wherever a signal handler may run.
void remove_unfinished_outputs() noexcept;

}  // namespace kvzip
