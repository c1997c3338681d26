// SPDX-License-Identifier: Apache-2.0
#include "formats/kvz/kvz_records.hpp"

#include <xxhash.h>

#include <algorithm>
#include <cstring>

#include "codec/bytes.hpp"
#include "codec/coders/coders.hpp"
#include "codec/fail.hpp"
#include "codec/limits.hpp"
#include "kvzip/trust.hpp"

namespace kvzip {
namespace {

using Magic = std::array<std::uint8_t, 8>;
constexpr std::array<Magic, 2> kMagics{{{0x89, 'K', 'V', 'Z', 0x0d, 0x0a, 0x1a, 0x0a},  // by FileKind
                                        {0x89, 'K', 'V', 'D', 0x0d, 0x0a, 0x1a, 0x0a}}};
constexpr std::array<std::string_view, 2> kExtensions{".kvz", ".kvzd"};
constexpr std::array<std::uint8_t, 8> kTailMagic{0x0a, 'K', 'V', 'Z', 'E', 'N', 'D', 0x89};
constexpr std::array<std::uint8_t, 8> kAppendedMagic{0x0a, 'K', 'V', 'Z', 'A', 'P', 'P', 0x89};
constexpr std::array<std::uint8_t, 4> kSync{'K', 'V', 'R', 1};

template <std::size_t N>
std::array<std::byte, N> to_array(const ByteWriter& writer) {
  std::array<std::byte, N> out{};
  std::copy(writer.view().begin(), writer.view().end(), out.begin());
  return out;
}
std::uint32_t check32(ByteView bytes) {
  return static_cast<std::uint32_t>(hash64(bytes));
}

}  // namespace

std::uint64_t hash64(ByteView bytes) {
  return XXH3_64bits(bytes.data(), bytes.size());
}

bool begins_container(ByteView first) {
  const Magic& magic = kMagics[static_cast<std::size_t>(FileKind::container)];
  return first.size() >= magic.size() && std::memcmp(first.data(), magic.data(), magic.size()) == 0;
}

Prelude make_prelude(const PreludeInfo& info, FileKind kind) {
  ByteWriter w;
  w.put(kMagics[static_cast<std::size_t>(kind)]);
  w.put(static_cast<std::uint16_t>(kKvzMajor));
  w.put(static_cast<std::uint16_t>(info.minor));
  w.put(info.features);     // flags a reader must understand
  w.put(std::uint32_t{0});  // flags a reader may ignore
  w.put(std::uint64_t{0});  // reserved
  w.put(check32(w.view()));
  return to_array<kPreludeBytes>(w);
}

PreludeInfo check_prelude(const Prelude& prelude, FileKind kind, bool shared) {
  ByteReader in(prelude);
  const Magic& expected = kMagics[static_cast<std::size_t>(kind)];
  const auto magic = in.get<Magic>();
  if (magic != expected) {
    if (std::equal(magic.begin(), magic.begin() + 4, expected.begin())) {
      fail(ErrorCode::corrupt, "the file was changed by a text-mode transfer (its line ends were translated)");
    }
    fail(ErrorCode::corrupt, "not a {} file", kExtensions[static_cast<std::size_t>(kind)]);
  }
  const auto major = in.get<std::uint16_t>(), minor = in.get<std::uint16_t>();
  if (major != kKvzMajor) {
    fail(ErrorCode::unsupported, "format {}.{}; this build reads {}.x: a newer kvzip is needed", major, minor,
         kKvzMajor);
  }
  if (check32(ByteView(prelude).first(28)) != ByteReader(ByteView(prelude).subspan(28)).get<std::uint32_t>()) {
    fail(ErrorCode::corrupt, "the first 32 bytes are damaged");
  }
  const auto critical = in.get<std::uint32_t>();
  if ((critical & kSharedFeature) != 0 && !shared && kind == FileKind::container) {
    fail(ErrorCode::unsupported,
         "its first tokens stand in another container beside it: decompress it by its name, not from a pipe, and "
         "compress it again to have all in one file");
  }
  const std::uint32_t known = kFeatures | (kind == FileKind::container ? kSharedFeature : 0u);
  if ((critical & ~known) != 0)
    fail(ErrorCode::unsupported, "the file needs a feature of format {}.{} (flags {:#x})", major, minor, critical);
  in.get<std::uint32_t>();
  if (in.get<std::uint64_t>() != 0) fail(ErrorCode::corrupt, "reserved bytes of the prelude are not zero");
  return {minor, critical};
}

RecordHeaderBytes make_record_header(const RecordHeader& h) {
  ByteWriter w;
  w.put(kSync);
  w.put(h.type);
  w.put(h.flags);
  w.put(h.stored);
  w.put(h.decoded);
  w.put(h.sequence);
  w.put(check32(w.view()));
  return to_array<kRecordHeaderBytes>(w);
}

RecordHeader parse_record_header(const RecordHeaderBytes& bytes, std::optional<std::uint32_t> sequence) {
  ByteReader in(bytes);
  if (in.get<std::array<std::uint8_t, 4>>() != kSync)
    fail(ErrorCode::corrupt, "a record does not start where it should");
  RecordHeader h;
  h.type = in.get<std::uint16_t>();
  h.flags = in.get<std::uint16_t>();
  h.stored = in.get<std::uint64_t>();
  h.decoded = in.get<std::uint64_t>();
  h.sequence = in.get<std::uint32_t>();
  if (in.get<std::uint32_t>() != check32(ByteView(bytes).first(28)))
    fail(ErrorCode::corrupt, "a record's header is damaged");
  if (sequence && h.sequence != *sequence) {
    fail(ErrorCode::corrupt, "record {} stands where record {} should", h.sequence, *sequence);
  }
  const bool results = h.type == static_cast<std::uint16_t>(RecordType::results);
  const bool table = h.type == static_cast<std::uint16_t>(RecordType::table);
  const bool known = (h.type >= 1 && h.type <= 5) || results;
  if (!known && (h.type & kAncillary) == 0) fail(ErrorCode::unsupported, "a record of the unknown type {}", h.type);
  const bool description = table || h.type == static_cast<std::uint16_t>(RecordType::header) ||
                           h.type == static_cast<std::uint16_t>(RecordType::index);
  if (known && (h.flags & ~(description ? kZstdPayload : 0)) != 0)
    fail(ErrorCode::unsupported, "record flags {:#x}", h.flags);
  if (known && h.flags == 0 && h.decoded != h.stored) fail(ErrorCode::corrupt, "a record's lengths differ");
  if (table && std::max(h.stored, h.decoded) > limits::kTableBytes + kTableFrontBytes) {
    fail(ErrorCode::limit, "a table of {} bytes", std::max(h.stored, h.decoded));
  }
  if (results && h.stored > limits::kResults) fail(ErrorCode::corrupt, "results of {} bytes", h.stored);
  return h;
}

Footer make_footer(const FooterInfo& info) {
  ByteWriter w;
  w.put(info.index_offset);
  w.put(info.file_bytes);
  w.put(info.before.value_or(0));
  w.put(std::uint32_t{0});
  w.put(check32(w.view()));
  w.put(info.before ? kAppendedMagic : kTailMagic);
  return to_array<kFooterBytes>(w);
}

FooterInfo parse_footer(const Footer& footer) {
  ByteReader in(footer);
  FooterInfo info;
  info.index_offset = in.get<std::uint64_t>();
  info.file_bytes = in.get<std::uint64_t>();
  const auto before = in.get<std::uint64_t>();
  const auto reserved = in.get<std::uint32_t>();
  const auto check = in.get<std::uint32_t>();
  const auto magic = in.get<std::array<std::uint8_t, 8>>();
  if (magic == kAppendedMagic) {
    info.before = before;
  } else if (magic != kTailMagic) {
    fail(ErrorCode::truncated, "the file does not end with a footer: it is truncated, or something was appended");
  }
  if (check != check32(ByteView(footer).first(28)) || reserved != 0 || (!info.before && before != 0)) {
    fail(ErrorCode::corrupt, "the footer is damaged");
  }
  return info;
}

Packed pack_description(ByteView bytes, std::uint64_t free) {
  if (bytes.size() > limits::kDescription) {
    fail(ErrorCode::limit, "names, attributes and tile groups take {} bytes; {} are allowed", bytes.size(),
         limits::kDescription);
  }
  const auto zstd = make_zstd();
  Stream s = byte_stream(StreamLabel::codes);
  const auto* p = reinterpret_cast<const std::uint8_t*>(bytes.data());
  s.data.assign(p, p + bytes.size());
  Bytes table, body;
  zstd->encode(s, table, body);
  if (body[0] == std::byte{0} || !limits::may_unfold(bytes.size(), body.size() - 1, free))
    return {Bytes(bytes.begin(), bytes.end()), 0};
  return {Bytes(body.begin() + 1, body.end()), kZstdPayload};
}

Bytes unpack_description(const RecordHeader& header, Bytes stored, std::uint64_t free) {
  const std::uint64_t allowed = trusts_files() ? limits::kDescription : free;
  if (!limits::may_unfold(header.decoded, header.stored, allowed)) {
    fail(ErrorCode::limit, "a description of {} bytes in {}: more than files of kvzip do", header.decoded,
         header.stored);
  }
  if (header.flags == 0) return stored;
  Stream s = element_stream(StreamLabel::codes, 1, static_cast<std::uint32_t>(header.decoded), 1);
  stored.insert(stored.begin(), std::byte{1});
  make_zstd()->decode(s, {}, stored);
  const auto bytes = std::as_bytes(std::span(s.data));
  return Bytes(bytes.begin(), bytes.end());
}

}  // namespace kvzip
