// SPDX-License-Identifier: Apache-2.0
// Where an HDF5 file is made: beside its final name, or anywhere when it goes to a stream.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "formats/file.hpp"
#include "formats/hdf5/hdf5_driver.hpp"

namespace kvzip::hdf5 {

/// What an output that is called so is collected in, in messages.
inline std::string copy_name(const std::string& path) {
  return fmt::format("temporary copy of {} in {}", path, temporary_directory());
}

class WrittenFile {
 public:
  explicit WrittenFile(Destination to) : path_(to.path) {
    if (to.sink || is_stream_output(to.path)) {
      stream_.emplace(std::move(to));
      path_ = stream_->path();
      copy_.emplace(temporary_directory() + "/kvzip");
      bytes_.emplace(copy_->descriptor(), copy_name(path_));
    } else {
      pending_.emplace(to.path, to.overwrite);
      bytes_.emplace(pending_->descriptor(), path_);
    }
  }
  /// A part of the output `path`, which its maker reads back from `part`. `part` outlives the object.
  WrittenFile(const TemporaryFile& part, const std::string& path) : path_(path) {
    bytes_.emplace(part.descriptor(), copy_name(path));
  }
  /// What the output is called.
  const std::string& path() const { return path_; }
  Output& bytes() { return *bytes_; }
  /// What is there now; not of a part.
  InputFile input() const { return pending_ ? pending_->input() : copy_->input(bytes_->name()); }
  void made_from(const InputList& inputs) {
    if (pending_) pending_->made_from(inputs);
    if (stream_) stream_->made_from(inputs);
  }
  void finish() {
    bytes_->require_written();
    if (pending_) return pending_->commit();
    if (!stream_) return;
    constexpr std::size_t kCopyBytes = std::size_t{1} << 20;
    Bytes buffer(kCopyBytes);
    const InputFile file = input();
    for (std::uint64_t at = 0; at < file.size(); at += buffer.size()) {
      buffer.resize(std::min<std::uint64_t>(buffer.size(), file.size() - at));
      file.read_at(at, buffer);
      stream_->append(buffer);
    }
    stream_->finish();
  }

 private:
  std::string path_;
  std::optional<PendingFile> pending_;
  std::optional<OutputFile> stream_;
  std::optional<TemporaryFile> copy_;
  std::optional<Output> bytes_;  // of one of them, or of a part
};

}  // namespace kvzip::hdf5
