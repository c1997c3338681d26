// SPDX-License-Identifier: Apache-2.0
// Where a container's records come from: a file, at any offset, or a stream, one after another.
#pragma once

#include <cstdint>
#include <optional>
#include <utility>

#include "codec/bytes.hpp"
#include "formats/file.hpp"
#include "formats/kvz/kvz_records.hpp"

namespace kvzip {

struct Record {
  RecordHeader header;
  Bytes payload;
  std::uint64_t hash = 0;  // as stored

  bool is(RecordType type) const { return header.type == static_cast<std::uint16_t>(type); }
  bool sound() const { return hash64(payload) == hash; }
};

/// Bytes of a record besides its payload.
inline constexpr std::uint64_t kRecordOverhead = kRecordHeaderBytes + kRecordTailBytes;

class RecordFile {
 public:
  explicit RecordFile(InputFile file) : file_(std::move(file)) {}
  const std::string& path() const { return file_.path(); }
  std::uint64_t size() const { return file_.size(); }
  void read_at(std::uint64_t offset, std::span<std::byte> out) const { file_.read_at(offset, out); }
  RecordHeader header_at(std::uint64_t offset) const;
  /// fail(truncated) before anything is allocated when the record reaches beyond the end of the file.
  Record record_at(std::uint64_t offset, std::optional<std::uint32_t> sequence = {}) const;

 private:
  InputFile file_;
};

class RecordStream {
 public:
  /// `stream` must outlive the object. `appended`: of a container behind another.
  explicit RecordStream(InputStream& stream, bool appended = false) : stream_(&stream), appended_(appended) {}
  void read(std::span<std::byte> out);
  /// The next record, which must have the next number. No more is allocated than the input has, or little more.
  Record next();
  void expect_end();
  bool appended() const { return appended_; }

  const std::string& name() const { return stream_->name(); }
  std::uint64_t position() const { return position_; }
  std::uint32_t count() const { return count_; }
  /// Of the stored checksums of all records but the last.
  std::uint64_t hash_before_last() const;

 private:
  InputStream* stream_;
  bool appended_;
  std::uint64_t position_ = 0;
  std::uint32_t count_ = 0;
  ByteWriter hashes_;
};

}  // namespace kvzip
