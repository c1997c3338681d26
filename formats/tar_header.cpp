// SPDX-License-Identifier: Apache-2.0
#include "formats/tar_header.hpp"

#include <algorithm>
#include <cstring>
#include <span>

#include "codec/fail.hpp"
#include "codec/number.hpp"
#include "formats/text.hpp"

namespace kvzip {
namespace {

using namespace std::literals;

struct Field {
  std::size_t at, bytes;
};
constexpr Field kName{0, kTarName}, kMode{100, 8}, kUid{108, 8}, kGid{116, 8}, kSize{124, 12}, kTime{136, 12},
    kChecksum{148, 8}, kType{156, 1}, kMagic{257, 8}, kMajor{329, 8}, kMinor{337, 8}, kPrefix{345, 155};

constexpr std::string_view kPosix = "ustar\00000"sv, kGnu = "ustar  \0"sv;
constexpr std::uint64_t kOctalEnd = std::uint64_t{1} << 33;  // of 11 digits

std::string_view text_of(ByteView block, const Field& field) {
  return {reinterpret_cast<const char*>(block.data()) + field.at, field.bytes};
}

std::string_view until_zero(std::string_view text) {
  return text.substr(0, text.find('\0'));
}

void put(TarBlock& block, const Field& field, std::string_view text) {
  std::memcpy(block.data() + field.at, text.data(), std::min(text.size(), field.bytes));
}

std::uint64_t octal(std::string_view text) {
  const std::size_t first = text.find_first_not_of(' ');
  std::uint64_t value = 0;
  bool digits = false;
  for (const char c : first == std::string_view::npos ? ""sv : text.substr(first)) {
    if (c == ' ' || c == '\0') break;
    if (c < '0' || c > '7') fail(ErrorCode::corrupt, "tar: {} is no octal number", quoted(text));
    value = value * 8 + static_cast<std::uint64_t>(c - '0');
    digits = true;
  }
  if (!digits) fail(ErrorCode::corrupt, "tar: a number is missing in a header");
  return value;
}

/// With spaces in its own place.
std::uint64_t checksum(const TarBlock& block) {
  std::uint64_t sum = kChecksum.bytes * std::uint64_t{' '};
  for (std::size_t i = 0; i < block.size(); ++i) {
    if (i < kChecksum.at || i >= kChecksum.at + kChecksum.bytes) sum += std::to_integer<std::uint64_t>(block[i]);
  }
  return sum;
}

}  // namespace

bool is_tar(ByteView first) {
  if (first.size() < kTarBlock) return false;
  const std::string_view magic = text_of(first, kMagic);
  return magic == kPosix || magic == kGnu;
}

std::array<char, 12> make_tar_size(std::uint64_t bytes) {
  std::array<char, 12> field{};
  if (bytes < kOctalEnd) {
    const std::string digits = fmt::format("{:011o}", bytes);
    std::copy_n(digits.begin(), digits.size(), field.begin());
    return field;
  }
  field[0] = static_cast<char>(0x80);
  for (std::size_t i = 0; i < sizeof bytes; ++i) field[11 - i] = static_cast<char>(bytes >> (8 * i) & 0xff);
  return field;
}

std::uint64_t parse_tar_size(const std::array<char, 12>& field) {
  const auto lead = static_cast<unsigned char>(field[0]);
  if (lead < 0x80) return octal({field.data(), field.size()});
  if ((lead & 0x40) != 0) fail(ErrorCode::corrupt, "tar: the size of a member is negative");
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < field.size(); ++i) {
    const unsigned char byte = i == 0 ? lead & 0x7f : static_cast<unsigned char>(field[i]);
    if (value >> 56 != 0) fail(ErrorCode::limit, "tar: the size of a member has more than 64 bits");
    value = value << 8 | byte;
  }
  return value;
}

TarBlock make_tar_header(const TarHeader& header) {
  TarBlock block{};
  put(block, kName, header.name);
  put(block, kMode, "0000600");
  for (const Field& field : {kUid, kGid, kMajor, kMinor}) put(block, field, "0000000");
  const std::array<char, 12> size = make_tar_size(header.bytes);
  put(block, kSize, {size.data(), size.size()});
  put(block, kTime, "00000000000");
  put(block, kType, {&header.type, 1});
  put(block, kMagic, kPosix);
  put(block, kChecksum, fmt::format("{:06o}", checksum(block)) + "\0 "s);
  return block;
}

TarHeader parse_tar_header(const TarBlock& block) {
  if (!is_tar(block)) fail(ErrorCode::corrupt, "tar: no header where a member should begin");
  if (octal(text_of(block, kChecksum)) != checksum(block)) {
    fail(ErrorCode::corrupt, "tar: the checksum of a header does not match");
  }
  TarHeader header;
  header.name = until_zero(text_of(block, kName));
  const std::string_view prefix = until_zero(text_of(block, kPrefix));
  if (text_of(block, kMagic) == kPosix && !prefix.empty()) header.name = fmt::format("{}/{}", prefix, header.name);
  std::array<char, 12> size{};
  std::memcpy(size.data(), block.data() + kSize.at, size.size());
  header.bytes = parse_tar_size(size);
  header.type = text_of(block, kType)[0];
  if (header.type == '\0') header.type = kTarFile;
  return header;
}

std::string make_pax_name(std::string_view name) {
  // The number counts itself.
  const std::string rest = fmt::format(" path={}\n", name);
  std::size_t bytes = rest.size() + 1;
  while (fmt::formatted_size("{}", bytes) + rest.size() != bytes) ++bytes;
  return fmt::format("{}{}", bytes, rest);
}

PaxFields parse_pax(std::string_view text) {
  PaxFields out;
  while (!text.empty()) {
    const std::size_t space = text.find(' ');
    const auto bytes = parse_number<std::size_t>(text.substr(0, std::min(space, text.size())));
    if (space == std::string_view::npos || !bytes || *bytes > text.size() || *bytes < space + 3 ||
        text[*bytes - 1] != '\n') {
      fail(ErrorCode::corrupt, "tar: a pax record does not have the length that it says");
    }
    const std::string_view record = text.substr(space + 1, *bytes - space - 2);
    const std::size_t equals = record.find('=');
    if (equals == std::string_view::npos) fail(ErrorCode::corrupt, "tar: a pax record without a value");
    const std::string_view key = record.substr(0, equals), value = record.substr(equals + 1);
    if (key.starts_with("GNU.sparse.")) fail(ErrorCode::unsupported, "tar: a member with holes");
    if (key == "path") out.name = std::string(value);
    if (key == "size") {
      out.bytes = parse_number<std::uint64_t>(value);
      if (!out.bytes) fail(ErrorCode::corrupt, "tar: {} is no size", quoted(value));
    }
    text.remove_prefix(*bytes);
  }
  return out;
}

}  // namespace kvzip
