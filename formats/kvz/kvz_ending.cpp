// SPDX-License-Identifier: Apache-2.0
#include "formats/kvz/kvz_ending.hpp"

#include <algorithm>
#include <string_view>
#include <utility>

#include "codec/fail.hpp"
#include "formats/kvz/kvz_pages.hpp"
#include "formats/kvz/kvz_results.hpp"

namespace kvzip {

void EndingCheck::count(const FoundRecord& found) {
  lost_ += found.lost;
  records_ += 1;
  hashes_.put(found.record.hash);
  if (walked_.empty()) lost_before_frames_ += found.lost;
  lost_since_frame_ += found.lost;
  if (!found.record.is(RecordType::frame)) {
    ++others_;
    return;
  }
  walked_.push_back({found.offset, found.record.header.stored});
  lost_since_frame_ = 0;
}

void EndingCheck::take(Record record, std::uint64_t offset) {
  const auto named = [&](std::string_view what) { add_fault(fmt::format("byte {}: {}", offset, what)); };
  if (record.is(RecordType::end)) {
    complete_ = true;
    return record.sound() ? check_end(record) : named("the end record is damaged");
  }
  if (record.is(RecordType::index)) {
    if (has_index_) return named("there is a second index");
    has_index_ = true;
    index_offset_ = offset;
    others_before_index_ = others_ - 1;
    index_number_ = record.header.sequence;
    if (!record.sound()) return named("the index is damaged");
    try {
      index_ = unpack_description(record.header, std::move(record.payload));
    } catch (const Error& e) {
      named(e.message());
    }
    return;
  }
  const bool results = record.is(RecordType::results);
  const bool pages = record.is(RecordType::pages) && record.header.flags == 0;
  if (record.header.type >= kAncillary && !results && !record.sound()) {
    return named("a record's checksum does not match");
  }
  if (!results && !pages) return;
  if (std::exchange(results ? has_results_ : has_pages_, true)) {
    named(results ? "there are results twice" : "there are pages twice");
  }
  try {
    if (results) read_results(record);
    if (pages) read_kvz_pages(record.payload);
  } catch (const Error& e) {
    named(e.message());
  }
}

void EndingCheck::check_end(const Record& record) {
  try {
    ByteReader in(record.payload);
    const auto records = in.get<std::uint64_t>(), frames = in.get<std::uint64_t>(), hash = in.get<std::uint64_t>();
    const bool right = records == records_ && frames == walked_.size() &&
                       hash == hash64(hashes_.view().first(hashes_.size() - sizeof hash));
    if (lost_ == 0 && !right) add_fault("the whole-file checksum does not match");
  } catch (const Error& e) {
    add_fault("the end record: " + e.message());
  }
}

void EndingCheck::check_numbers(std::uint64_t frames) const {
  if (!has_index_) return;
  const std::uint64_t before = others_before_index_ + frames;  // were nothing else lost
  const bool results_lost = !has_results_ && lost_since_frame_ > 0 && lost_before_frames_ == 0;
  if (index_number_ == before || (results_lost && index_number_ == before + 1)) return;
  fail(ErrorCode::corrupt, "the numbers of its records do not add up, so that frames could be taken for others");
}

void EndingCheck::check_footer(RecordScan& scan) {
  const std::uint64_t at = scan.position();
  const ByteView rest = scan.front(kFooterBytes + kPreludeBytes);
  if (rest.size() < kFooterBytes) return add_fault("the footer is cut");
  followed_ = rest.size() > kFooterBytes && begins_container(rest.subspan(kFooterBytes));
  if (followed_) {
    add_fault("another container follows the end of this one, and is not read");
  } else if (rest.size() > kFooterBytes) {
    add_fault("something follows the end of the container");
  }
  Footer bytes;
  std::copy_n(rest.begin(), kFooterBytes, bytes.begin());
  try {
    const FooterInfo footer = parse_footer(bytes);
    if (footer.file_bytes != at + kFooterBytes || (has_index_ && footer.index_offset != index_offset_)) {
      add_fault("the footer does not match");
    }
  } catch (const Error& e) {
    add_fault(e.message());
  }
}

std::vector<std::string> EndingCheck::faults(RecordScan& scan, std::uint64_t frames, bool holes) {
  if (!has_index_ && !complete_) {
    add_fault("it ends without index, end and footer: it was cut");
  } else if (!has_index_) {
    add_fault("the index is missing");
  } else if (!complete_) {
    add_fault("the end record is missing");
  }
  if (!index_.empty() && walked_.size() == frames && !holes) {
    try {
      if (parse_index(index_, frames, index_offset_) != walked_) add_fault("the index does not point to the frames");
    } catch (const Error& e) {
      add_fault(e.message());
    }
  }
  if (complete_) check_footer(scan);
  if (scan.stray_bytes() > 0) {
    add_fault(fmt::format("{} bytes, the first of them byte {}, belong to no record", scan.stray_bytes(),
                          scan.first_stray()));
  }
  return faults_;
}

}  // namespace kvzip
