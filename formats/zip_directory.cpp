// SPDX-License-Identifier: Apache-2.0
// An archive is read from its end: the end record says where the directory is, and the directory where the members are.
#include <algorithm>
#include <optional>

#include "codec/fail.hpp"
#include "codec/limits.hpp"
#include "formats/text.hpp"
#include "formats/zip.hpp"
#include "formats/zip_records.hpp"

namespace kvzip {
namespace {

using zip::number;

struct Directory {
  std::uint64_t begin = 0, size = 0, members = 0;
};

Bytes bytes_at(const InputFile& file, std::uint64_t offset, std::size_t size) {
  Bytes out(size);
  file.read_at(offset, out);
  return out;
}

std::optional<Directory> large_directory(const InputFile& file, std::uint64_t end) {
  if (end < zip::kLocatorBytes) return std::nullopt;
  const Bytes locator = bytes_at(file, end - zip::kLocatorBytes, zip::kLocatorBytes);
  if (number<std::uint32_t>(locator, 0) != zip::kLocator64) return std::nullopt;
  const auto at = number<std::uint64_t>(locator, 8);
  if (at > end || end - at < zip::kEnd64Bytes)
    fail(ErrorCode::corrupt, "zip: its 64-bit end record is not in the file");
  const Bytes record = bytes_at(file, at, zip::kEnd64Bytes);
  if (number<std::uint32_t>(record, 0) != zip::kEnd64) fail(ErrorCode::corrupt, "zip: no 64-bit end record");
  return Directory{.begin = number<std::uint64_t>(record, 48),
                   .size = number<std::uint64_t>(record, 40),
                   .members = number<std::uint64_t>(record, 32)};
}

Directory find_directory(const InputFile& file) {
  constexpr std::uint64_t kMaxComment = 65535;
  const std::uint64_t length = std::min<std::uint64_t>(file.size(), kMaxComment + zip::kEndBytes);
  const std::uint64_t from = file.size() - length;
  const Bytes tail = bytes_at(file, from, length);
  for (std::size_t at = length - std::min<std::uint64_t>(length, zip::kEndBytes) + 1; at-- > 0;) {
    const ByteView record = ByteView(tail).subspan(at);
    if (record.size() < zip::kEndBytes || number<std::uint32_t>(record, 0) != zip::kEnd) continue;
    if (number<std::uint16_t>(record, 20) != record.size() - zip::kEndBytes) continue;
    if (number<std::uint16_t>(record, 4) != 0 && number<std::uint16_t>(record, 4) != zip::kLarge16) {
      fail(ErrorCode::unsupported, "zip: an archive in several files");
    }
    Directory found{.begin = number<std::uint32_t>(record, 16),
                    .size = number<std::uint32_t>(record, 12),
                    .members = number<std::uint16_t>(record, 10)};
    if (const auto large = large_directory(file, from + at)) found = *large;
    if (found.begin > from + at || found.size > from + at - found.begin) {
      fail(ErrorCode::corrupt, "zip: its directory of {} bytes at {} is not in the file", found.size, found.begin);
    }
    return found;
  }
  fail(ErrorCode::truncated, "zip: no directory at the end; was the file cut?");
}

/// Numbers that do not fit 32 bits stand in an extra field, those alone and in this order.
void read_large(ByteView extra, ZipMember& member) {
  std::uint64_t* wanted[] = {&member.size, &member.stored, &member.header};
  while (extra.size() >= 4) {
    const std::size_t length = number<std::uint16_t>(extra, 2);
    if (extra.size() - 4 < length) break;
    ByteView field = extra.subspan(4, length);
    if (number<std::uint16_t>(extra, 0) == zip::kExtension64) {
      for (std::uint64_t* value : wanted) {
        if (*value != zip::kLarge32 || field.size() < 8) continue;
        *value = number<std::uint64_t>(field, 0);
        field = field.subspan(8);
      }
      return;
    }
    extra = extra.subspan(4 + length);
  }
}

/// One entry of the directory; `bytes` goes on to the next.
ZipMember read_entry(ByteView& bytes) {
  if (bytes.size() < zip::kCentralBytes || number<std::uint32_t>(bytes, 0) != zip::kCentral) {
    fail(ErrorCode::corrupt, "zip: its directory ends too early");
  }
  const std::size_t name = number<std::uint16_t>(bytes, 28), extra = number<std::uint16_t>(bytes, 30);
  const std::size_t length = zip::kCentralBytes + name + extra + number<std::uint16_t>(bytes, 32);
  if (bytes.size() < length) fail(ErrorCode::corrupt, "zip: its directory ends too early");
  ZipMember member{.name = {reinterpret_cast<const char*>(bytes.data()) + zip::kCentralBytes, name},
                   .header = number<std::uint32_t>(bytes, 42),
                   .begin = 0,
                   .stored = number<std::uint32_t>(bytes, 20),
                   .size = number<std::uint32_t>(bytes, 24),
                   .crc = number<std::uint32_t>(bytes, 16)};
  read_large(bytes.subspan(zip::kCentralBytes + name, extra), member);
  const auto method = number<std::uint16_t>(bytes, 10);
  if ((number<std::uint16_t>(bytes, 8) & zip::kEncrypted) != 0) {
    fail(ErrorCode::unsupported, "member {} is encrypted", quoted(member.name));
  }
  if (method != zip::kStored && method != zip::kDeflated) {
    fail(ErrorCode::unsupported, "member {} is compressed by method {}; save it stored or deflated",
         quoted(member.name), method);
  }
  member.deflated = method == zip::kDeflated;
  if (!is_utf8(member.name)) fail(ErrorCode::unsupported, "member {}: the name is not UTF-8", quoted(member.name));
  bytes = bytes.subspan(length);
  return member;
}

void find_bytes(const InputFile& file, ZipMember& member, std::uint64_t end) {
  if (member.header > end || end - member.header < zip::kLocalBytes) {
    fail(ErrorCode::corrupt, "member {} is not in the file", quoted(member.name));
  }
  const Bytes local = bytes_at(file, member.header, zip::kLocalBytes);
  if (number<std::uint32_t>(local, 0) != zip::kLocal) {
    fail(ErrorCode::corrupt, "member {}: no header where the directory says", quoted(member.name));
  }
  member.begin = member.header + zip::kLocalBytes + number<std::uint16_t>(local, 26) + number<std::uint16_t>(local, 28);
  if (member.begin > end || member.stored > end - member.begin) {
    fail(ErrorCode::corrupt, "member {} is not in the file", quoted(member.name));
  }
  const bool fits = member.deflated ? member.size / limits::kZipRatio <= member.stored : member.size == member.stored;
  if (!fits) {
    fail(ErrorCode::corrupt, "member {}: {} bytes cannot hold the {} that it states", quoted(member.name),
         member.stored, member.size);
  }
}

void require_apart(const std::vector<ZipMember>& members) {
  std::vector<const ZipMember*> order;
  for (const ZipMember& member : members) order.push_back(&member);
  std::ranges::sort(order, {}, &ZipMember::header);
  for (std::size_t i = 1; i < order.size(); ++i) {
    if (order[i - 1]->begin + order[i - 1]->stored <= order[i]->header) continue;
    fail(ErrorCode::corrupt, "members {} and {} share bytes", quoted(order[i - 1]->name), quoted(order[i]->name));
  }
  std::ranges::sort(order, {}, &ZipMember::name);
  for (std::size_t i = 1; i < order.size(); ++i) {
    if (order[i - 1]->name == order[i]->name) fail(ErrorCode::corrupt, "two members {}", quoted(order[i]->name));
  }
}

}  // namespace

std::vector<ZipMember> read_zip_directory(const InputFile& file) {
  const Directory directory = find_directory(file);
  if (directory.members > limits::kZipMembers || directory.size > limits::kZipDirectory) {
    fail(ErrorCode::limit, "zip: {} members in a directory of {} bytes are too many", directory.members,
         directory.size);
  }
  const Bytes all = bytes_at(file, directory.begin, directory.size);
  ByteView rest = all;
  std::vector<ZipMember> members;
  for (std::uint64_t i = 0; i < directory.members; ++i) {
    members.push_back(read_entry(rest));
    find_bytes(file, members.back(), directory.begin);
  }
  require_apart(members);
  return members;
}

}  // namespace kvzip
