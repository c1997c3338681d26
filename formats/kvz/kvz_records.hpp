// SPDX-License-Identifier: Apache-2.0
// The container's bytes: prelude, records, footer (man/kvz.5). Nothing here knows what records hold.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include "codec/limits.hpp"
#include "kvzip/io.hpp"

namespace kvzip {

inline constexpr unsigned kKvzMajor = 1, kKvzMinor = 1;  // the latest; files state what they use
inline constexpr std::size_t kPreludeBytes = 32, kRecordHeaderBytes = 32, kRecordTailBytes = 8, kFooterBytes = 40;
inline constexpr std::uint64_t kTableFrontBytes = 2 + 2 + 64 + 8;  // most bytes of a table record before the table

enum class RecordType : std::uint16_t {
  header = 1,
  frame = 2,
  index = 3,
  end = 4,
  table = 5,
  results = 0x8001,
  pages = 0x8002
};
inline constexpr std::uint16_t kAncillary = 0x8000;  // type bit: a reader that does not know the type skips the record
inline constexpr std::uint16_t kZstdPayload = 1;     // flag: the payload is one zstd frame

struct RecordHeader {
  std::uint16_t type = 0, flags = 0;
  std::uint64_t stored = 0, decoded = 0;
  std::uint32_t sequence = 0;
};

/// What a file is: its first bytes say so.
enum class FileKind : std::uint8_t { container, tables };

using Prelude = std::array<std::byte, kPreludeBytes>;
using RecordHeaderBytes = std::array<std::byte, kRecordHeaderBytes>;
using Footer = std::array<std::byte, kFooterBytes>;

std::uint64_t hash64(ByteView bytes);  // XXH3-64

/// Flags of the prelude that a reader must know.
enum Feature : std::uint32_t {
  kMembersFeature = 1,  // 1.1: groups whose slots state their heads, and stages that ask for a slot's role
  kChainedFeature = 2,  // 1.1: groups whose pipelines are chained, and their restart points
  kSharedFeature = 4,   // 1.1: its first tokens are in another file
};
inline constexpr std::uint32_t kFeatures = kMembersFeature | kChainedFeature;  // of what one file tells alone

struct PreludeInfo {
  unsigned minor = 0;
  std::uint32_t features = 0;
};
/// By the magic number; false of fewer bytes.
bool begins_container(ByteView first);
Prelude make_prelude(const PreludeInfo& info, FileKind kind = FileKind::container);
/// Refuses other magics (naming text-mode damage), majors and unknown critical flags.
/// `shared`: whoever asks can read the first tokens from another file.
PreludeInfo check_prelude(const Prelude& prelude, FileKind kind = FileKind::container, bool shared = false);

RecordHeaderBytes make_record_header(const RecordHeader& header);
/// fail(corrupt) unless sync, check and flags are right and the sequence number is the expected one (where one is
/// expected).
RecordHeader parse_record_header(const RecordHeaderBytes& bytes, std::optional<std::uint32_t> sequence);

/// Offset and length count from the container's first byte. `before`: hash64 of the footer behind which the container
/// was appended; nothing for one that begins a file.
struct FooterInfo {
  std::uint64_t index_offset = 0, file_bytes = 0;
  std::optional<std::uint64_t> before{};
};
Footer make_footer(const FooterInfo& info);
FooterInfo parse_footer(const Footer& footer);

/// Payload of a description record: zstd where that is smaller, unless it would unfold more than a reader allows.
struct Packed {
  Bytes stored;
  std::uint16_t flags = 0;
};
/// `free`: bytes that it may unfold to whatever is stored.
Packed pack_description(ByteView bytes, std::uint64_t free = limits::kFreeDescription);
Bytes unpack_description(const RecordHeader& header, Bytes stored, std::uint64_t free = limits::kFreeDescription);

}  // namespace kvzip
