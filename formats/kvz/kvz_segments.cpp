// SPDX-License-Identifier: Apache-2.0
#include "formats/kvz/kvz_segments.hpp"

#include <algorithm>
#include <optional>
#include <string_view>
#include <utility>

#include "codec/fail.hpp"
#include "codec/limits.hpp"
#include "formats/kvz/kvz_source.hpp"
#include "kvzip/trust.hpp"

namespace kvzip {
namespace {

constexpr std::size_t kMagicBytes = 8;

Footer footer_before(const InputFile& file, std::uint64_t end) {
  Footer footer;
  file.read_at(end - footer.size(), footer);
  return footer;
}

/// What a footer says, if it is one.
std::optional<FooterInfo> said_by(const Footer& footer) {
  try {
    return parse_footer(footer);
  } catch (const Error&) {
    return std::nullopt;
  }
}

/// The footer is that of a container of so many bytes behind `before`.
bool fits(const Footer& footer, std::uint64_t bytes, const std::optional<Footer>& before) {
  const std::optional<FooterInfo> said = said_by(footer);
  return said && said->file_bytes == bytes && said->before == (before ? std::optional(hash64(*before)) : std::nullopt);
}

/// The bytes at `at` are the first of a container, or the file ends within its magic number.
bool begins_container(const InputFile& file, std::uint64_t at) {
  const Prelude prelude = make_prelude({});
  Bytes there(std::min<std::uint64_t>(kMagicBytes, file.size() - at));
  file.read_at(at, there);
  return std::equal(there.begin(), there.end(), prelude.begin());
}

/// Unpacked bytes of the header of the container that begins at `at`; 0 where it is damaged, and cannot be opened.
std::uint64_t described_at(const InputFile& file, std::uint64_t at) {
  try {
    RecordHeaderBytes bytes;
    file.read_at(at + kPreludeBytes, bytes);
    return parse_record_header(bytes, 0).decoded;
  } catch (const Error&) {
    return 0;
  }
}

/// What a container leaves of itself where its first bytes are damaged: part of the magic number, or the header's
/// record.
bool may_be_container(const InputFile& file) {
  constexpr std::size_t kEnough = 4;  // a text-mode transfer changes the others
  const Prelude prelude = make_prelude({});
  Prelude there{};
  file.read_at(0, std::span(there).first(std::min<std::uint64_t>(there.size(), file.size())));
  return std::equal(there.begin(), there.begin() + kEnough, prelude.begin()) || described_at(file, 0) > 0;
}

/// All containers of a file that ends with one, by what footers say, from the last to the first: a part of a long file
/// is read without the records of the rest. Nothing where one does not fit.
std::optional<Segments> from_behind(const InputFile& file) {
  Segments out;
  std::optional<std::uint64_t> before;  // what the footer behind this one says of it
  for (std::uint64_t end = file.size(); end > 0;) {
    if (end < kPreludeBytes + kFooterBytes || out.all.size() >= limits::kSegments) return std::nullopt;
    const Footer footer = footer_before(file, end);
    const std::optional<FooterInfo> said = said_by(footer);
    if (!said || (before && hash64(footer) != *before)) return std::nullopt;
    if (said->file_bytes < kPreludeBytes + kFooterBytes || said->file_bytes > end) return std::nullopt;
    const std::uint64_t begin = end - said->file_bytes;
    if (said->before.has_value() != (begin > 0) || !begins_container(file, begin)) return std::nullopt;
    out.all.push_back({begin, said->file_bytes});
    before = said->before;
    end = begin;
  }
  std::reverse(out.all.begin(), out.all.end());
  out.end = file.size();
  return out;
}

struct Followed {
  Segments::Rest rest = Segments::Rest::nothing;  // why it has no end
  std::uint64_t end = 0;                          // behind its footer
};

/// Along the records of the container that begins at `at`.
Followed follow_records(const InputFile& file, std::uint64_t at) {
  using Rest = Segments::Rest;
  const std::uint64_t size = file.size();
  if (!begins_container(file, at)) return {Rest::foreign};
  if (size - at < kPreludeBytes) return {Rest::cut};
  at += kPreludeBytes;
  for (RecordHeader header; header.type != static_cast<std::uint16_t>(RecordType::end);) {
    if (size - at < kRecordOverhead) return {Rest::cut};
    RecordHeaderBytes bytes;
    file.read_at(at, bytes);
    try {
      header = parse_record_header(bytes, std::nullopt);
    } catch (const Error& e) {
      if (e.code() == ErrorCode::unsupported) throw;
      return {Rest::damaged};
    }
    if (header.stored > size - at - kRecordOverhead) return {Rest::cut};
    at += kRecordOverhead + header.stored;
  }
  if (size - at < kFooterBytes) return {Rest::cut};
  return {Rest::nothing, at + kFooterBytes};
}

/// The end of a container whose records cannot be followed: behind the first footer that tells of so many bytes. A
/// container among the data has a shorter one.
std::optional<std::uint64_t> end_by_footer(const InputFile& file, std::uint64_t begin,
                                           const std::optional<Footer>& before) {
  constexpr std::uint64_t kStep = std::uint64_t{1} << 20;
  const Footer sample = make_footer({0, 0, before ? std::optional<std::uint64_t>(0) : std::nullopt});
  const std::string_view magic(reinterpret_cast<const char*>(sample.data()) + kFooterBytes - kMagicBytes, kMagicBytes);
  Bytes block;
  for (std::uint64_t at = begin; file.size() - at >= kFooterBytes; at += block.size() - kFooterBytes + 1) {
    block.resize(std::min(kStep, file.size() - at));
    file.read_at(at, block);
    const std::string_view text(reinterpret_cast<const char*>(block.data()), block.size());
    for (auto found = text.find(magic); found != std::string_view::npos; found = text.find(magic, found + 1)) {
      if (found + kMagicBytes < kFooterBytes) continue;  // it was in the block before
      Footer footer;
      std::copy_n(block.begin() + static_cast<std::ptrdiff_t>(found + kMagicBytes - kFooterBytes), kFooterBytes,
                  footer.begin());
      const std::uint64_t end = at + found + kMagicBytes;
      if (fits(footer, end - begin, before)) return end;
    }
  }
  return std::nullopt;
}

class Window final : public Source {
 public:
  Window(std::shared_ptr<const InputFile> file, const Segment& segment) : file_(std::move(file)), segment_(segment) {}
  std::uint64_t size() const override { return segment_.bytes; }
  void read_at(std::uint64_t offset, std::span<std::byte> out) const override {
    file_->read_at(segment_.begin + offset, out);
  }

 private:
  std::shared_ptr<const InputFile> file_;
  Segment segment_;
};

}  // namespace

Segments find_segments(const InputFile& file) {
  Segments out;
  const std::uint64_t size = file.size();
  if (size >= kPreludeBytes + kFooterBytes && fits(footer_before(file, size), size, {})) {
    Segments whole{{{0, size}}, size};
    whole.described = described_at(file, 0);
    return whole;
  }
  if (auto all = from_behind(file)) {
    for (const Segment& segment : std::exchange(all->all, {})) {
      const std::uint64_t described = described_at(file, segment.begin);
      check_room(*all, described);
      all->described += described;
      all->all.push_back(segment);
    }
    return *all;
  }
  std::optional<Footer> before;
  while (out.end < size) {
    Followed followed = follow_records(file, out.end);
    if (followed.rest == Segments::Rest::damaged) {
      const auto end = end_by_footer(file, out.end, before);
      if (end) followed = {Segments::Rest::nothing, *end};
    }
    out.rest = followed.rest;
    if (followed.rest != Segments::Rest::nothing) break;
    const Footer footer = footer_before(file, followed.end);
    if (const auto said = said_by(footer); out.all.empty() && said) out.headless = said->before.has_value();
    const std::uint64_t described = described_at(file, out.end);
    check_room(out, described);
    out.described += described;
    out.all.push_back({out.end, followed.end - out.end, fits(footer, followed.end - out.end, before)});
    out.end = followed.end;
    before = footer;
  }
  if (out.all.empty() && !may_be_container(file)) {
    fail_in(file.path(), ErrorCode::corrupt, "not a .kvz container, nor what is left of one");
  }
  return out;
}

void check_room(const Segments& segments, std::uint64_t header_bytes) {
  if (segments.all.empty()) return;
  if (segments.all.size() >= limits::kSegments)
    fail(ErrorCode::limit, "more than {} containers in a file", limits::kSegments);
  if (header_bytes > limits::kDescription - std::min(segments.described, limits::kDescription)) {
    fail(ErrorCode::limit, "the headers of its containers take more than {} bytes", limits::kDescription);
  }
  const Segment& last = segments.all.back();
  if (!trusts_files() && !limits::may_unfold(segments.described, last.begin + last.bytes, limits::kFreeDescription)) {
    fail(ErrorCode::limit, "the headers of its containers take {} bytes: more than files of kvzip do",
         segments.described);
  }
}

InputFile segment_file(std::shared_ptr<const InputFile> file, const Segment& segment) {
  std::string name = file->path();
  return {std::make_unique<Window>(std::move(file), segment), std::move(name)};
}

}  // namespace kvzip
