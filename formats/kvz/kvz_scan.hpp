// SPDX-License-Identifier: Apache-2.0
// The records of a container that may be damaged: what is no record is passed over.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <utility>

#include "formats/file.hpp"
#include "formats/kvz/kvz_source.hpp"

namespace kvzip {

struct FoundRecord {
  Record record;
  std::uint64_t offset = 0;  // of its first byte
  std::uint32_t lost = 0;    // records that are missing before it, by their numbers
  std::uint64_t after = 0;   // where the record before it ended
};

class RecordScan {
 public:
  /// Says whether a record that might stand here can be one of the file. It is asked about bytes of any payload, too.
  using Accept = std::function<bool(const RecordHeader& header, std::uint64_t offset)>;

  /// `stream` must outlive the object.
  explicit RecordScan(InputStream& stream) : stream_(&stream) {}
  void accept(Accept accept) { accept_ = std::move(accept); }
  /// The next bytes; fewer where the file ends.
  ByteView front(std::size_t bytes);
  void skip(std::uint64_t bytes);
  /// The next record in the order of their numbers; none at the end. Its payload is sound, or ends where a record or
  /// the footer begins. fail(unsupported) for one of a later version behind a whole one.
  std::optional<FoundRecord> next();
  /// Bytes so far that belong to no record, and the first of them.
  std::uint64_t stray_bytes() const { return stray_bytes_; }
  std::uint64_t first_stray() const { return first_stray_; }
  std::uint64_t position() const { return base_ + at_; }
  /// Where the last record ended.
  std::uint64_t after() const { return after_; }

 private:
  bool need(std::uint64_t bytes);
  ByteView window() const { return ByteView(buffer_).subspan(at_); }
  std::optional<RecordHeader> header_at(std::size_t at, bool in_step);
  bool ends_in_step(std::uint64_t bytes);
  std::optional<FoundRecord> record_here();
  void pass_stray();
  void count_waste(std::uint64_t bytes);

  InputStream* stream_;
  Accept accept_;
  Bytes buffer_;
  std::size_t at_ = 0;      // in the buffer
  std::uint64_t base_ = 0;  // of the buffer in the file
  std::uint64_t after_ = 0, stray_bytes_ = 0, first_stray_ = 0, wasted_ = 0;
  std::int64_t last_ = -1;  // number of the last record
};

}  // namespace kvzip
