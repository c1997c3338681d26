// SPDX-License-Identifier: Apache-2.0
#include "formats/kvz/kvz_source.hpp"

#include <algorithm>
#include <array>

#include "codec/fail.hpp"

namespace kvzip {
namespace {

/// Bytes come in steps, so that a hostile length allocates no more than the input really has.
constexpr std::uint64_t kReadStep = std::uint64_t{16} << 20;
constexpr std::size_t kFirstBytes = 8;

using RecordTail = std::array<std::byte, kRecordTailBytes>;

std::uint64_t hash_of(const RecordTail& tail) {
  return ByteReader(tail).get<std::uint64_t>();
}

/// What follows begins as a container, or as much of one as there is, and does not end as one that begins a file.
bool may_be_appended(InputStream& rest) {
  const Prelude prelude = make_prelude({});
  const ByteView first = rest.peek(kFirstBytes);
  if (!std::equal(first.begin(), first.begin() + static_cast<std::ptrdiff_t>(std::min(first.size(), kFirstBytes)),
                  prelude.begin()))
    return false;
  Bytes last, some(kReadStep / 16);
  for (std::size_t got = some.size(); got == some.size();) {
    got = rest.read(some);
    last.insert(last.end(), some.begin(), some.begin() + static_cast<std::ptrdiff_t>(got));
    last.erase(last.begin(), last.end() - static_cast<std::ptrdiff_t>(std::min(last.size(), kFirstBytes)));
  }
  const Footer footer = make_footer({});
  return !std::equal(last.begin(), last.end(), footer.end() - kFirstBytes, footer.end());
}

}  // namespace

RecordHeader RecordFile::header_at(std::uint64_t offset) const {
  RecordHeaderBytes bytes;
  read_at(offset, bytes);
  return parse_record_header(bytes, std::nullopt);
}

Record RecordFile::record_at(std::uint64_t offset, std::optional<std::uint32_t> sequence) const {
  RecordHeaderBytes bytes;
  read_at(offset, bytes);
  Record record;
  record.header = parse_record_header(bytes, sequence);
  const std::uint64_t at = offset + kRecordHeaderBytes, stored = record.header.stored;
  if (stored > size() - std::min(at, size())) {
    fail(ErrorCode::truncated, "a record of {} bytes reaches beyond the end of the file", stored);
  }
  record.payload.resize(stored);
  read_at(at, record.payload);
  RecordTail tail;
  read_at(at + stored, tail);
  record.hash = hash_of(tail);
  return record;
}

void RecordStream::read(std::span<std::byte> out) {
  if (stream_->read(out) != out.size()) fail(ErrorCode::truncated, "the input ends too early");
  position_ += out.size();
}

Record RecordStream::next() {
  RecordHeaderBytes bytes;
  read(bytes);
  Record record;
  record.header = parse_record_header(bytes, count_++);
  while (record.payload.size() < record.header.stored) {
    const std::size_t before = record.payload.size();
    record.payload.resize(before + std::min(record.header.stored - before, kReadStep));
    read(std::span(record.payload).subspan(before));
  }
  RecordTail tail;
  read(tail);
  record.hash = hash_of(tail);
  hashes_.put(record.hash);
  return record;
}

void RecordStream::expect_end() {
  if (stream_->peek(1).empty()) return;
  if (!may_be_appended(*stream_)) fail(ErrorCode::corrupt, "something follows the end of the container");
  fail(ErrorCode::unsupported,
       "another container follows the end of this one, and one that others were appended to is read from a file");
}

std::uint64_t RecordStream::hash_before_last() const {
  return hash64(hashes_.view().first(hashes_.size() - sizeof(std::uint64_t)));
}

}  // namespace kvzip
