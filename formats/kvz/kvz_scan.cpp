// SPDX-License-Identifier: Apache-2.0
#include "formats/kvz/kvz_scan.hpp"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "codec/bytes.hpp"
#include "codec/fail.hpp"
#include "codec/limits.hpp"
#include "kvzip/error.hpp"
#include "kvzip/trust.hpp"

namespace kvzip {
namespace {

constexpr std::string_view kSyncText("KVR\1", 4);
constexpr std::size_t kShortRead = std::size_t{1} << 14, kLongRead = std::size_t{4} << 20;

}  // namespace

/// True when so many bytes lie before the scan.
bool RecordScan::need(std::uint64_t bytes) {
  while (buffer_.size() - at_ < bytes) {
    if (at_ > buffer_.size() / 2) {
      buffer_.erase(buffer_.begin(), buffer_.begin() + static_cast<std::ptrdiff_t>(at_));
      base_ += std::exchange(at_, 0);
    }
    const std::size_t had = buffer_.size();
    buffer_.resize(had + std::clamp(had, kShortRead, kLongRead));
    const std::size_t got = stream_->read(std::span(buffer_).subspan(had));
    buffer_.resize(had + got);
    if (got == 0) return false;
  }
  return true;
}

ByteView RecordScan::front(std::size_t bytes) {
  need(bytes);
  return window().first(std::min(bytes, window().size()));
}

void RecordScan::skip(std::uint64_t bytes) {
  if (need(bytes)) at_ += bytes;
  after_ = position();
}

std::optional<RecordHeader> RecordScan::header_at(std::size_t at, bool in_step) {
  const ByteView bytes = window().subspan(at, kRecordHeaderBytes);
  ByteReader sync(bytes), check(bytes.subspan(kRecordHeaderBytes - sizeof(std::uint32_t)));
  const auto stored = check.get<std::uint32_t>();
  // Most of what looks like a record's first bytes by chance ends here, without an exception.
  const bool looks = std::equal(kSyncText.begin(), kSyncText.end(), reinterpret_cast<const char*>(bytes.data()));
  if (!looks || static_cast<std::uint32_t>(hash64(bytes.first(28))) != stored) return {};
  RecordHeaderBytes header;
  std::copy(bytes.begin(), bytes.end(), header.begin());
  try {
    return parse_record_header(header, std::nullopt);
  } catch (const Error& e) {
    if (in_step && e.code() == ErrorCode::unsupported) throw;
    return {};
  }
}

/// A record, the footer or nothing follows after so many bytes.
bool RecordScan::ends_in_step(std::uint64_t bytes) {
  if (!need(bytes + kRecordHeaderBytes)) return window().size() == bytes;
  if (header_at(bytes, false)) return true;
  if (!need(bytes + kFooterBytes)) return false;
  Footer footer;
  std::copy_n(window().begin() + static_cast<std::ptrdiff_t>(bytes), kFooterBytes, footer.begin());
  try {
    parse_footer(footer);
    return true;
  } catch (const Error&) {
    return false;
  }
}

void RecordScan::count_waste(std::uint64_t bytes) {
  wasted_ += bytes;
  if (wasted_ <= limits::kFreeWaste + limits::kWastePerByte * (base_ + buffer_.size()) || trusts_files()) return;
  fail(ErrorCode::limit, "more bytes look like the beginning of a record than any damage makes");
}

std::optional<FoundRecord> RecordScan::record_here() {
  const bool in_step = position() == after_;
  const auto header = header_at(0, in_step);
  if (!header || std::int64_t{header->sequence} <= last_) return {};
  if (accept_ && !accept_(*header, position())) return {};
  if (header->stored > ~std::uint64_t{0} - kRecordOverhead) return {};
  const std::uint64_t bytes = header->stored + kRecordOverhead;
  if (!need(bytes)) return {};
  FoundRecord found;
  const ByteView payload = window().subspan(kRecordHeaderBytes, header->stored);
  found.record.header = *header;
  found.record.hash = ByteReader(window().subspan(bytes - kRecordTailBytes)).get<std::uint64_t>();
  if (hash64(payload) != found.record.hash) {
    count_waste(bytes);
    if (!ends_in_step(bytes)) return {};
  }
  const ByteView again = window().subspan(kRecordHeaderBytes, header->stored);  // the window may have moved
  found.record.payload.assign(again.begin(), again.end());
  found.offset = position();
  found.lost = static_cast<std::uint32_t>(header->sequence - last_ - 1);
  found.after = after_;
  return found;
}

/// Goes on to the next bytes that look like a record's first.
void RecordScan::pass_stray() {
  const std::uint64_t from = position();
  ++at_;
  while (need(kSyncText.size())) {
    const std::string_view text(reinterpret_cast<const char*>(window().data()), window().size());
    const std::size_t found = text.find(kSyncText);
    if (found != std::string_view::npos) {
      at_ += found;
      break;
    }
    at_ += text.size() - (kSyncText.size() - 1);
  }
  if (!need(kSyncText.size())) at_ = buffer_.size();
  if (stray_bytes_ == 0) first_stray_ = from;
  stray_bytes_ += position() - from;
}

std::optional<FoundRecord> RecordScan::next() {
  while (need(kRecordHeaderBytes)) {
    if (auto found = record_here()) {
      at_ += found->record.header.stored + kRecordOverhead;
      after_ = position();
      last_ = found->record.header.sequence;
      return found;
    }
    pass_stray();
  }
  return {};
}

}  // namespace kvzip
