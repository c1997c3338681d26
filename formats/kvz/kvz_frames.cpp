// SPDX-License-Identifier: Apache-2.0
#include "formats/kvz/kvz_frames.hpp"

#include <algorithm>
#include <string_view>
#include <utility>

#include "codec/fail.hpp"
#include "formats/kvz/kvz_pages.hpp"
#include "formats/kvz/kvz_tables.hpp"

namespace kvzip {
namespace {

/// Results say what all frames came to, so they follow the last one; two could contradict each other.
void check_place_of_results(bool may_stand_here, bool seen) {
  if (!may_stand_here) fail(ErrorCode::corrupt, "the results do not stand between the last frame and the index");
  if (seen) fail(ErrorCode::corrupt, "there are results twice");
}

FooterInfo footer_of(const RecordFile& file, std::uint64_t after_header) {
  const std::uint64_t size = file.size();
  if (size < after_header + kFooterBytes) fail(ErrorCode::truncated, "the file ends too early");
  Footer bytes;
  file.read_at(size - kFooterBytes, bytes);
  const FooterInfo footer = parse_footer(bytes);
  if (footer.file_bytes != size) {
    fail(ErrorCode::corrupt, "the file has {} bytes and says {}: it was cut or something was put before it", size,
         footer.file_bytes);
  }
  if (footer.index_offset < after_header || footer.index_offset > size - kFooterBytes)
    fail(ErrorCode::corrupt, "the index lies outside the file");
  return footer;
}

}  // namespace

Bytes with_hash(Record record) {
  ByteWriter tail;
  tail.put(record.hash);
  record.payload.insert(record.payload.end(), tail.view().begin(), tail.view().end());
  return std::move(record.payload);
}

KvzResults read_results(const Record& record) {
  if (!record.sound()) fail(ErrorCode::corrupt, "the checksum of the results does not match");
  return read_kvz_results({reinterpret_cast<const char*>(record.payload.data()), record.payload.size()});
}

std::vector<FrameAt> parse_index(const Bytes& bytes, std::uint64_t frames, std::uint64_t end) {
  // Per frame: bytes between the end of the record before (0 for the first) and this record, and its stored length.
  if (frames > bytes.size() / 2) fail(ErrorCode::corrupt, "the index has too few entries");
  std::vector<FrameAt> index;
  ByteReader in(bytes);
  std::uint64_t at = 0;
  for (std::uint64_t f = 0; f < frames; ++f) {
    const std::uint64_t gap = in.get_varint(), stored = in.get_varint();
    if (gap > end - at || end - at - gap < kRecordOverhead || stored > end - at - gap - kRecordOverhead) {
      fail(ErrorCode::corrupt, "the index points outside the file");
    }
    index.push_back({at + gap, stored});
    at += gap + stored + kRecordOverhead;
  }
  in.expect_end();
  return index;
}

std::vector<FrameAt> frames_by_index(const RecordFile& file, std::uint64_t frames, std::uint64_t after_header) {
  const FooterInfo footer = footer_of(file, after_header);
  Record record = file.record_at(footer.index_offset);
  if (!record.is(RecordType::index) || !record.sound()) fail(ErrorCode::corrupt, "the index is damaged");
  return parse_index(unpack_description(record.header, std::move(record.payload)), frames, footer.index_offset);
}

std::string frame_name(const KvzHeader& header, std::uint64_t frame) {
  const PlanGroup& group = header.plan.groups.at(header.plan.group_of(frame));
  const std::string& name = header.dump.tensors[group.slots[0].tensor].name;
  const std::uint64_t first = (frame - group.first_frame) * group.chunk;
  if (!group.tiled) return fmt::format("{}, frame {}", name, frame);
  return fmt::format("{}, tokens {}-{}", name, first, std::min(first + group.chunk, group.rows) - 1);
}

IndexedFrames::IndexedFrames(RecordFile file, const KvzHeader& header, std::uint64_t after_header)
    : file_(std::move(file)), header_(header) {
  const FooterInfo footer = footer_of(file_, after_header);
  Record record = file_.record_at(footer.index_offset);
  if (!record.is(RecordType::index) || !record.sound()) fail(ErrorCode::corrupt, "the index is damaged");
  const std::uint64_t after_index = footer.index_offset + kRecordOverhead + record.header.stored;
  index_ = parse_index(unpack_description(record.header, std::move(record.payload)), header.plan.frames,
                       footer.index_offset);
  std::uint64_t at = after_header;
  for (const FrameAt& frame : index_) {
    check_between(at, frame.offset, at == after_header ? Between::header_and_frames : Between::frames);
    at = frame.offset + kRecordOverhead + frame.stored;
  }
  check_between(at, footer.index_offset, Between::frames_and_index);
  check_between(after_index, file_.size() - kFooterBytes, Between::index_and_footer);
  if (results_at_) results_ = read_results(file_.record_at(*results_at_));
  for (const std::uint64_t offset : tables_at_) take_table(file_.record_at(offset), tables_);
}

/// What stands between two places that the index names: records that may be skipped, tables before the first frame, and
/// the end record at the end.
void IndexedFrames::check_between(std::uint64_t at, std::uint64_t to, Between between) {
  while (at < to) {
    const RecordHeader h = file_.header_at(at);
    if (to - at < kRecordOverhead || h.stored > to - at - kRecordOverhead) fail(ErrorCode::corrupt, "records overlap");
    if (h.type == static_cast<std::uint16_t>(RecordType::results)) {
      check_place_of_results(between == Between::frames_and_index, results_at_.has_value());
      results_at_ = at;
    }
    const bool before_frames =
        between == Between::header_and_frames || (between == Between::frames_and_index && index_.empty());
    const bool table = before_frames && h.type == static_cast<std::uint16_t>(RecordType::table);
    if (table) tables_at_.push_back(at);
    at += kRecordOverhead + h.stored;
    const bool end = h.type == static_cast<std::uint16_t>(RecordType::end);
    if (h.type < kAncillary && !table && !(end && between == Between::index_and_footer && at == to)) {
      fail(ErrorCode::corrupt, "the index does not name a record of type {}", h.type);
    }
  }
  if (at != to) fail(ErrorCode::corrupt, "the index does not point to a record");
}

Bytes IndexedFrames::fetch(std::uint64_t frame) const {
  Record record = file_.record_at(at(frame).offset);
  if (!record.is(RecordType::frame) || record.header.stored != at(frame).stored) {
    fail(ErrorCode::corrupt, "{}: the index does not point to it", frame_name(header_, frame));
  }
  return with_hash(std::move(record));
}

Bytes IndexedFrames::front(std::uint64_t frame, std::uint64_t bytes) const {
  Bytes front(std::min(at(frame).stored, bytes));
  file_.read_at(at(frame).offset + kRecordHeaderBytes, front);
  return front;
}

StreamedFrames::StreamedFrames(RecordStream records, std::uint64_t frames)
    : records_(std::move(records)), frames_(frames) {
  if (frames == 0) read_ending();
}

Bytes StreamedFrames::fetch(std::uint64_t frame) {
  if (frame < walked_.size()) fail(ErrorCode::invalid_argument, "frames come from a pipe once, in their order");
  Bytes coded;
  while (walked_.size() <= frame) {
    Record record = next_known_record(false);
    if (!record.is(RecordType::frame)) fail(ErrorCode::truncated, "frame {} is missing", walked_.size());
    const std::uint64_t stored = record.header.stored;
    walked_.push_back({records_.position() - kRecordOverhead - stored, stored});
    if (walked_.size() > frame) coded = with_hash(std::move(record));
  }
  if (walked_.size() == frames_) read_ending();
  return coded;
}

/// Skips ancillary records, but for the results, which it takes, as it takes the tables before the first frame, and for
/// the pages, which nobody but verification reads.
Record StreamedFrames::next_known_record(bool results_may_stand_here) {
  for (;;) {
    Record record = records_.next();
    if (record.is(RecordType::table) && tables_may_stand_here_) {
      take_table(record, tables_);
      continue;
    }
    if (record.header.type < kAncillary) {
      tables_may_stand_here_ = false;
      return record;
    }
    if (record.is(RecordType::results)) {
      check_place_of_results(results_may_stand_here, results_.has_value());
      results_ = read_results(record);
    } else if (!record.sound()) {
      fail(ErrorCode::corrupt, "a record's checksum does not match");
    } else if (record.is(RecordType::pages) && record.header.flags == 0) {
      if (std::exchange(has_pages_, true)) fail(ErrorCode::corrupt, "there are pages twice");
      read_kvz_pages(record.payload);
    }
  }
}

/// Index, end, footer, nothing.
void StreamedFrames::read_ending() {
  Record record = next_known_record(true);
  if (!record.is(RecordType::index) || !record.sound()) fail(ErrorCode::corrupt, "the index is damaged");
  const std::uint64_t index_offset = records_.position() - kRecordOverhead - record.header.stored;
  const Bytes index = unpack_description(record.header, std::move(record.payload));
  if (parse_index(index, frames_, index_offset) != walked_)
    fail(ErrorCode::corrupt, "the index does not point to the frames");
  record = next_known_record(false);
  if (!record.is(RecordType::end) || !record.sound()) fail(ErrorCode::corrupt, "the end record is damaged");
  ByteReader in(record.payload);
  const auto records = in.get<std::uint64_t>(), frames = in.get<std::uint64_t>(), hash = in.get<std::uint64_t>();
  if (records != records_.count() || frames != frames_ || hash != records_.hash_before_last()) {
    fail(ErrorCode::corrupt, "the whole-file checksum does not match");
  }
  Footer footer;
  records_.read(footer);
  const FooterInfo info = parse_footer(footer);
  if (info.file_bytes != records_.position() || info.index_offset != index_offset ||
      info.before.has_value() != records_.appended())
    fail(ErrorCode::corrupt, "the footer does not match");
  records_.expect_end();
}

}  // namespace kvzip
