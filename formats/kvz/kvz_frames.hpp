// SPDX-License-Identifier: Apache-2.0
// The frames of a container whose header is known: by its index, or as they come.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "formats/kvz/kvz_header.hpp"
#include "formats/kvz/kvz_results.hpp"
#include "formats/kvz/kvz_source.hpp"
#include "kvzip/tables.hpp"

namespace kvzip {

/// Where a frame's record stands, and its payload's bytes.
struct FrameAt {
  std::uint64_t offset = 0, stored = 0;
  bool operator==(const FrameAt&) const = default;
};

/// "layers.3.key, tokens 256-511"
std::string frame_name(const KvzHeader& header, std::uint64_t frame);

/// A record's payload with its stored checksum behind it.
Bytes with_hash(Record record);
/// What a record of results says, once its checksum holds.
KvzResults read_results(const Record& record);
/// What an index says. fail(corrupt) where that is not `frames` frames that end at `end` at the latest.
std::vector<FrameAt> parse_index(const Bytes& bytes, std::uint64_t frames, std::uint64_t end);
/// The index of a file that is as long as its footer says.
std::vector<FrameAt> frames_by_index(const RecordFile& file, std::uint64_t frames, std::uint64_t after_header);

/// Frames of a file, in any order. What the index says is checked before any frame is read, and that nothing but
/// records that may be skipped stands between the frames.
class IndexedFrames {
 public:
  /// `header`, which ends at `after_header`, must outlive the object.
  IndexedFrames(RecordFile file, const KvzHeader& header, std::uint64_t after_header);

  /// A frame's payload, and its stored checksum behind it.
  Bytes fetch(std::uint64_t frame) const;
  /// Bytes of the payload's front; fewer when it is shorter.
  Bytes front(std::uint64_t frame, std::uint64_t bytes) const;
  const FrameAt& at(std::uint64_t frame) const { return index_.at(frame); }
  std::uint64_t file_bytes() const { return file_.size(); }
  const std::optional<KvzResults>& results() const { return results_; }
  const Tables& tables() const { return tables_; }

 private:
  enum class Between { header_and_frames, frames, frames_and_index, index_and_footer };
  void check_between(std::uint64_t at, std::uint64_t to, Between between);

  RecordFile file_;
  const KvzHeader& header_;
  std::vector<FrameAt> index_;
  std::optional<std::uint64_t> results_at_;
  std::vector<std::uint64_t> tables_at_;
  Tables tables_;
  std::optional<KvzResults> results_;
};

/// Frames of a stream, front to back. With the last one all that follows is read and checked against what came before.
class StreamedFrames {
 public:
  /// The header's record is the last one taken from `records`.
  StreamedFrames(RecordStream records, std::uint64_t frames);

  /// As IndexedFrames::fetch(), of ascending frames; those left out are skipped.
  Bytes fetch(std::uint64_t frame);
  /// Bytes read so far.
  std::uint64_t position() const { return records_.position(); }
  /// Known after the last frame.
  const std::optional<KvzResults>& results() const { return results_; }
  /// Known with the first frame.
  const Tables& tables() const { return tables_; }

 private:
  Record next_known_record(bool results_may_stand_here);
  void read_ending();

  RecordStream records_;
  std::uint64_t frames_;
  std::vector<FrameAt> walked_;
  std::optional<KvzResults> results_;
  Tables tables_;
  bool tables_may_stand_here_ = true, has_pages_ = false;
};

}  // namespace kvzip
