// SPDX-License-Identifier: Apache-2.0
#include "formats/kvz/kvz_pages.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "codec/bytes.hpp"
#include "codec/fail.hpp"
#include "codec/limits.hpp"
#include "formats/kvz/kvz_output.hpp"
#include "formats/kvz/kvz_segments.hpp"
#include "formats/kvz/kvz_source.hpp"

namespace kvzip {
namespace {

constexpr std::uint64_t kCopyStep = std::uint64_t{1} << 20;

template <typename T>
std::vector<T> take_numbers(ByteReader& in, std::uint64_t count) {
  if (count > in.left() / sizeof(T)) fail(ErrorCode::truncated, "pages: the record ends too early");
  std::vector<T> out(count);
  const ByteView bytes = in.take(count * sizeof(T));
  if (count > 0) std::memcpy(out.data(), bytes.data(), bytes.size());
  return out;
}

template <typename T>
void put_numbers(ByteWriter& out, const std::vector<T>& numbers) {
  out.put_bytes(std::as_bytes(std::span(numbers)));
}

void check_list(const PageList& list) {
  const auto finite = [](float x) { return std::isfinite(x); };
  if (!std::all_of(list.base.begin(), list.base.end(), finite) ||
      !std::all_of(list.step.begin(), list.step.end(), [&](float x) { return finite(x) && x >= 0; })) {
    fail(ErrorCode::corrupt, "pages: a scale of layer {} is out of range", list.layer);
  }
  for (std::size_t page = 0; page < list.radius.size(); ++page) {
    if (std::isnan(list.radius[page])) fail(ErrorCode::corrupt, "pages: a radius of layer {} is no number", list.layer);
    if (list.radius[page] < 0) continue;
    for (std::size_t i = page * list.channels; i < (page + 1) * list.channels; ++i) {
      if (list.low[i] > list.high[i]) fail(ErrorCode::corrupt, "pages: a box of layer {} is inside out", list.layer);
    }
  }
}

PageList read_list(ByteReader& in, std::uint32_t page_tokens) {
  PageList out;
  out.layer = in.get<std::uint32_t>();
  out.batch = in.get<std::uint64_t>();
  out.heads = in.get<std::uint32_t>();
  out.channels = in.get<std::uint32_t>();
  out.tokens = in.get<std::uint64_t>();
  if (out.heads == 0 || out.channels == 0 || out.tokens == 0) {
    fail(ErrorCode::corrupt, "pages: layer {} has no keys", out.layer);
  }
  out.pages = (out.tokens - 1) / page_tokens + 1;
  // Each is bounded by the bytes at hand before it is multiplied.
  const std::uint64_t left = in.left();
  if (out.heads > left || out.channels > left / out.heads || out.pages > left / out.heads / out.channels) {
    fail(ErrorCode::truncated, "pages: the record ends too early");
  }
  const std::uint64_t scales = std::uint64_t{out.heads} * out.channels, codes = scales * out.pages;
  out.base = take_numbers<float>(in, scales);
  out.step = take_numbers<float>(in, scales);
  out.radius = take_numbers<float>(in, out.heads * out.pages);
  out.low = take_numbers<std::uint8_t>(in, codes);
  out.high = take_numbers<std::uint8_t>(in, codes);
  out.centre = take_numbers<std::uint8_t>(in, codes);
  check_list(out);
  return out;
}

struct Walked {
  std::uint64_t index_offset = 0;
  std::uint64_t records = 0;  // before the index
  ByteWriter hashes;          // of these
  std::optional<std::uint64_t> pages_at;
};

/// Over all records in front of the index.
Walked walk(const RecordFile& file) {
  if (file.size() < kPreludeBytes + kFooterBytes) fail(ErrorCode::truncated, "the file ends too early");
  Footer footer;
  file.read_at(file.size() - kFooterBytes, footer);
  Walked out;
  out.index_offset = parse_footer(footer).index_offset;
  if (out.index_offset > file.size() - kFooterBytes) fail(ErrorCode::corrupt, "the index lies outside the file");
  std::uint64_t at = kPreludeBytes;
  for (; at < out.index_offset; ++out.records) {
    const RecordHeader h = file.header_at(at);
    const std::uint64_t room = out.index_offset - at;
    if (room < kRecordOverhead || h.stored > room - kRecordOverhead) fail(ErrorCode::corrupt, "records overlap");
    if (h.type == static_cast<std::uint16_t>(RecordType::pages)) {
      if (out.pages_at) fail(ErrorCode::corrupt, "there are pages twice");
      out.pages_at = at;
    } else if (out.pages_at) {
      fail(ErrorCode::corrupt, "the pages do not stand in front of the index");
    }
    at += kRecordOverhead + h.stored;
    std::array<std::byte, kRecordTailBytes> hash;
    file.read_at(at - kRecordTailBytes, hash);
    out.hashes.put_bytes(hash);
  }
  if (at != out.index_offset) fail(ErrorCode::corrupt, "the index does not follow a record");
  return out;
}

}  // namespace

const PageList* KvzPages::of(std::uint32_t layer, std::uint64_t batch) const {
  const auto found =
      std::find_if(lists.begin(), lists.end(), [&](const PageList& l) { return l.layer == layer && l.batch == batch; });
  return found == lists.end() ? nullptr : &*found;
}

Bytes write_kvz_pages(const KvzPages& pages) {
  ByteWriter out;
  out.put(pages.page_tokens);
  out.put(static_cast<std::uint32_t>(pages.lists.size()));
  for (const PageList& list : pages.lists) {
    out.put(list.layer);
    out.put(list.batch);
    out.put(list.heads);
    out.put(list.channels);
    out.put(list.tokens);
    put_numbers(out, list.base);
    put_numbers(out, list.step);
    put_numbers(out, list.radius);
    put_numbers(out, list.low);
    put_numbers(out, list.high);
    put_numbers(out, list.centre);
  }
  return std::move(out.bytes());
}

KvzPages read_kvz_pages(ByteView payload) {
  ByteReader in(payload);
  KvzPages out;
  out.page_tokens = in.get<std::uint32_t>();
  if (out.page_tokens == 0 || out.page_tokens > limits::kPageTokens) {
    fail(ErrorCode::corrupt, "pages: {} tokens are no page", out.page_tokens);
  }
  const auto count = in.get<std::uint32_t>();
  for (std::uint32_t i = 0; i < count; ++i) {
    PageList list = read_list(in, out.page_tokens);
    if (!out.lists.empty()) {
      const PageList& last = out.lists.back();
      if (std::pair(list.layer, list.batch) <= std::pair(last.layer, last.batch)) {
        fail(ErrorCode::corrupt, "pages: layer {} does not follow layer {}", list.layer, last.layer);
      }
    }
    out.lists.push_back(std::move(list));
  }
  in.expect_end();
  return out;
}

std::optional<KvzPages> find_kvz_pages(InputFile file) {
  const Segments segments = find_segments(file);
  if (segments.all.size() > 1) return std::nullopt;  // they would say nothing of what was appended
  const auto whole = std::make_shared<const InputFile>(std::move(file));
  const Segment first = segments.all.empty() ? Segment{0, whole->size()} : segments.all[0];
  const RecordFile records(segment_file(whole, first));
  const Walked walked = walk(records);
  if (!walked.pages_at) return std::nullopt;
  const Record record = records.record_at(*walked.pages_at);
  if (record.header.flags != 0) fail(ErrorCode::unsupported, "record flags {:#x}", record.header.flags);
  if (!record.sound()) fail(ErrorCode::corrupt, "the checksum of the pages does not match");
  return read_kvz_pages(record.payload);
}

void add_kvz_pages(InputFile container, const KvzPages& pages, OutputFile& out) {
  const RecordFile records(std::move(container));
  Walked walked = walk(records);
  if (walked.pages_at) fail(ErrorCode::invalid_argument, "it has pages");
  Bytes some;
  for (std::uint64_t at = 0; at < walked.index_offset; at += some.size()) {
    some.resize(std::min(kCopyStep, walked.index_offset - at));
    records.read_at(at, some);
    out.append(some);
  }
  const Record index = records.record_at(walked.index_offset);
  const Record end = records.record_at(walked.index_offset + kRecordOverhead + index.header.stored);
  if (!end.is(RecordType::end) || end.payload.size() != 3 * sizeof(std::uint64_t)) {
    fail(ErrorCode::corrupt, "the end record is damaged");
  }
  RecordAppender more(out, std::move(walked.hashes), static_cast<std::uint32_t>(walked.records));
  const Bytes payload = write_kvz_pages(pages);
  more.append(RecordType::pages, 0, payload, payload.size());
  more.end(index.header.flags, index.payload, index.header.decoded,
           ByteReader(ByteView(end.payload).subspan(sizeof(std::uint64_t))).get<std::uint64_t>());
}

}  // namespace kvzip
