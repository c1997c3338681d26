// SPDX-License-Identifier: Apache-2.0
// Headers of tar archives: ustar, with pax records for what does not fit (POSIX.1-2017, pax, "ustar Interchange Format"
// and "pax Extended Header"), and with sizes in base 256 as GNU tar writes them where 11 octal digits are too few.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "kvzip/dtype.hpp"

namespace kvzip {

inline constexpr std::size_t kTarBlock = 512;
using TarBlock = std::array<std::byte, kTarBlock>;

inline constexpr char kTarFile = '0', kTarFolder = '5', kTarPax = 'x';
inline constexpr std::size_t kTarName = 100;  // the longest that needs no pax record

struct TarHeader {
  std::string name;
  std::uint64_t bytes = 0;
  char type = kTarFile;
};

/// Zeros behind so many bytes, up to a whole block.
inline std::uint64_t tar_padding(std::uint64_t bytes) {
  return (kTarBlock - bytes % kTarBlock) % kTarBlock;
}

/// By the magic number of a first header.
bool is_tar(ByteView first);

/// The header of a file that only its owner may read, from no time and of nobody, so that the same members always make
/// the same archive. A longer name is cut.
TarBlock make_tar_header(const TarHeader& header);
/// fail(corrupt) on what is none, or where the checksum does not match. Old forms of kTarFile become it.
TarHeader parse_tar_header(const TarBlock& block);

/// A size in its field: 11 octal digits, or base 256.
std::array<char, 12> make_tar_size(std::uint64_t bytes);
/// fail(corrupt) where it is no number or negative, fail(limit) where 64 bits are too few.
std::uint64_t parse_tar_size(const std::array<char, 12>& field);

/// What a pax header says of the file behind it.
struct PaxFields {
  std::optional<std::string> name;
  std::optional<std::uint64_t> bytes;
};
std::string make_pax_name(std::string_view name);
/// Keys that are not known are passed over; fail(unsupported) for sparse files, fail(corrupt) on what are no records.
PaxFields parse_pax(std::string_view text);

}  // namespace kvzip
