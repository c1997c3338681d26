// SPDX-License-Identifier: Apache-2.0
// A container taken apart into records and put together again with every checksum right, so that tests and fuzzers
// reach what lies behind the checksums.
#pragma once

#include <algorithm>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "codec/bytes.hpp"
#include "formats/kvz/kvz_records.hpp"

namespace kvzip::test {

struct RawRecord {
  std::uint16_t type = 0, flags = 0;
  Bytes payload;
  std::optional<std::uint64_t> decoded;  // none: the payload's size
};

constexpr std::uint16_t record_type(RecordType type) {
  return static_cast<std::uint16_t>(type);
}

template <typename T>
T load(ByteView bytes, std::size_t at) {
  T value{};
  if (at + sizeof value <= bytes.size()) std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

/// The records of a file, as far as their lengths lead; checksums are not looked at.
inline std::vector<RawRecord> take_apart(ByteView file) {
  std::vector<RawRecord> records;
  std::size_t at = kPreludeBytes;
  while (file.size() >= at + kRecordHeaderBytes + kRecordTailBytes) {
    RawRecord r;
    r.type = load<std::uint16_t>(file, at + 4);
    r.flags = load<std::uint16_t>(file, at + 6);
    const auto stored = load<std::uint64_t>(file, at + 8);
    r.decoded = load<std::uint64_t>(file, at + 16);
    at += kRecordHeaderBytes;
    if (stored > file.size() - at - kRecordTailBytes) break;
    const ByteView payload = file.subspan(at, stored);
    r.payload.assign(payload.begin(), payload.end());
    at += stored + kRecordTailBytes;
    records.push_back(std::move(r));
    if (records.back().type == record_type(RecordType::end)) break;
  }
  return records;
}

/// A file of these records. An index or end record without payload gets the right one.
inline Bytes put_together(const std::vector<RawRecord>& records, unsigned minor = 0, std::uint32_t features = 0) {
  ByteWriter out, index, hashes;
  out.put_bytes(make_prelude({minor, features}));
  std::uint64_t index_end = 0, frames = 0;
  FooterInfo footer;
  for (std::size_t i = 0; i < records.size(); ++i) {
    const RawRecord& r = records[i];
    Bytes payload = r.payload;
    auto decoded = r.decoded.value_or(payload.size());
    if (r.type == record_type(RecordType::frame)) {
      index.put_varint(out.size() - index_end);
      index.put_varint(payload.size());
      index_end = out.size() + kRecordHeaderBytes + payload.size() + kRecordTailBytes;
      ++frames;
    }
    if (r.type == record_type(RecordType::index)) {
      footer.index_offset = out.size();
      if (payload.empty()) payload = index.bytes(), decoded = payload.size();
    }
    if (r.type == record_type(RecordType::end) && payload.empty()) {
      ByteWriter end;
      end.put(std::uint64_t{i} + 1);
      end.put(frames);
      end.put(hash64(hashes.view()));
      payload = end.bytes();
      decoded = payload.size();
    }
    out.put_bytes(make_record_header({r.type, r.flags, payload.size(), decoded, static_cast<std::uint32_t>(i)}));
    out.put_bytes(payload);
    hashes.put(hash64(payload));
    out.put(hash64(payload));
  }
  footer.file_bytes = out.size() + kFooterBytes;
  out.put_bytes(make_footer(footer));
  return std::move(out.bytes());
}

inline std::string header_text(const RawRecord& r) {
  const RecordHeader header{r.type, r.flags, r.payload.size(), r.decoded.value_or(r.payload.size()), 0};
  const Bytes text = unpack_description(header, r.payload);
  return {reinterpret_cast<const char*>(text.data()), text.size()};
}

/// A plain header record.
inline RawRecord header_record(std::string_view text) {
  const auto bytes = std::as_bytes(std::span(text.data(), text.size()));
  return {record_type(RecordType::header), 0, Bytes(bytes.begin(), bytes.end()), {}};
}

}  // namespace kvzip::test
