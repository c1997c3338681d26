// SPDX-License-Identifier: Apache-2.0
// Where an HDF5 file is made: beside its final name, or anywhere when it goes to a stream.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "formats/file.hpp"

namespace kvzip::hdf5 {

class WrittenFile {
 public:
  explicit WrittenFile(Destination to) {
    if (to.sink || is_stream_output(to.path)) {
      stream_.emplace(std::move(to));
      copy_.emplace(temporary_directory() + "/kvzip");
    } else {
      pending_.emplace(to.path, to.overwrite);
    }
  }
  int descriptor() const { return pending_ ? pending_->descriptor() : copy_->descriptor(); }
  /// What is there now.
  InputFile input() const { return pending_ ? pending_->input() : copy_->input("the file to be made again"); }
  void made_from(const InputList& inputs) {
    if (pending_) pending_->made_from(inputs);
  }
  void finish() {
    if (pending_) return pending_->commit();
    constexpr std::size_t kCopyBytes = std::size_t{1} << 20;
    Bytes buffer(kCopyBytes);
    const InputFile file = copy_->input("the temporary copy");
    for (std::uint64_t at = 0; at < file.size(); at += buffer.size()) {
      buffer.resize(std::min<std::uint64_t>(buffer.size(), file.size() - at));
      file.read_at(at, buffer);
      stream_->append(buffer);
    }
    stream_->finish();
  }

 private:
  std::optional<PendingFile> pending_;
  std::optional<OutputFile> stream_;
  std::optional<TemporaryFile> copy_;
};

}  // namespace kvzip::hdf5
