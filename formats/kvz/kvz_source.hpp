// SPDX-License-Identifier: Apache-2.0
// Where a container's records come from.
#pragma once

#include <algorithm>
#include <optional>
#include <utility>

#include "codec/bytes.hpp"
#include "codec/fail.hpp"
#include "formats/file.hpp"
#include "formats/kvz/kvz_records.hpp"

namespace kvzip {

/// Bytes come in steps, so that a hostile length allocates no more than the input really has.
inline constexpr std::uint64_t kReadStep = std::uint64_t{16} << 20;

/// Where records come from: a file, at any offset, or a stream, at the current place only.
class RecordSource {
 public:
  explicit RecordSource(InputFile file) : file_(std::move(file)) {}
  explicit RecordSource(InputStream& stream) : stream_(&stream) {}

  bool seekable() const { return file_.has_value(); }
  const InputFile& file() const { return *file_; }
  void seek(std::uint64_t offset) { at_ = offset; }
  std::uint64_t position() const { return at_; }

  void read(std::span<std::byte> out) {
    if (file_) {
      file_->read_at(at_, out);
    } else if (stream_->read(out) != out.size()) {
      fail(ErrorCode::truncated, "the input ends too early");
    }
    at_ += out.size();
  }
  Bytes read_bytes(std::uint64_t count) {
    if (file_ && count > file_->size() - std::min(at_, file_->size())) {
      fail(ErrorCode::truncated, "a record of {} bytes reaches beyond the end of the file", count);
    }
    Bytes bytes;
    while (bytes.size() < count) {
      const std::size_t before = bytes.size();
      bytes.resize(before + std::min(count - before, kReadStep));
      read(std::span(bytes).subspan(before));
    }
    return bytes;
  }
  void expect_end() {
    if (file_ ? at_ != file_->size() : !stream_->peek(1).empty()) {
      fail(ErrorCode::corrupt, "something follows the end of the container");
    }
  }

 private:
  std::optional<InputFile> file_;
  InputStream* stream_ = nullptr;
  std::uint64_t at_ = 0;
};

struct Record {
  RecordHeader header;
  Bytes payload;
  std::uint64_t hash = 0;  // as stored
  bool sound() const { return hash64(payload) == hash; }
};

inline Record read_record(RecordSource& source, std::optional<std::uint32_t> sequence) {
  RecordHeaderBytes bytes;
  source.read(bytes);
  Record record;
  record.header = parse_record_header(bytes, sequence);
  record.payload = source.read_bytes(record.header.stored);
  std::array<std::byte, kRecordTailBytes> tail;
  source.read(tail);
  record.hash = ByteReader(tail).get<std::uint64_t>();
  return record;
}

}  // namespace kvzip
