// SPDX-License-Identifier: Apache-2.0
// A container under construction: frames go in, everything around them is made here.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include "codec/bytes.hpp"
#include "formats/file.hpp"
#include "formats/kvz/kvz_header.hpp"
#include "formats/kvz/kvz_records.hpp"
#include "kvzip/container.hpp"

namespace kvzip {

/// Records behind each other, numbered and hashed, and what ends a container.
class RecordAppender {
 public:
  /// `out` must outlive the object; `hashes` and `sequence` are of the records before.
  explicit RecordAppender(OutputFile& out, ByteWriter hashes = {}, std::uint32_t sequence = 0)
      : out_(out), hashes_(std::move(hashes)), sequence_(sequence) {}
  void append(RecordType type, std::uint16_t flags, ByteView payload, std::uint64_t decoded);
  /// The index, as a payload that is packed already, the end record and the footer.
  void end(std::uint16_t index_flags, ByteView index, std::uint64_t index_decoded, std::uint64_t frames);

 private:
  OutputFile& out_;
  ByteWriter hashes_;
  std::uint32_t sequence_;
};

class KvzOutput {
 public:
  /// Writes all that stands before the first frame.
  KvzOutput(Destination to, const KvzHeader& header, const Tables& tables);
  /// The payload of the next frame.
  void append_frame(ByteView payload);
  void made_from(const InputList& inputs) { out_->made_from(inputs); }
  /// Writes all that follows the last frame, and gives the output its name.
  void finish(const std::optional<KvzResults>& results);

 private:
  std::unique_ptr<OutputFile> out_;  // which the appender knows, wherever this object goes
  RecordAppender records_;
  ByteWriter index_;
  std::uint64_t index_end_ = 0, frames_ = 0;
};

}  // namespace kvzip
