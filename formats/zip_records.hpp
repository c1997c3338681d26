// SPDX-License-Identifier: Apache-2.0
// What reading and writing of zip archives share.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "kvzip/dtype.hpp"

namespace kvzip::zip {

inline constexpr std::uint32_t kLocal = 0x04034b50, kCentral = 0x02014b50, kEnd = 0x06054b50;
inline constexpr std::uint32_t kEnd64 = 0x06064b50, kLocator64 = 0x07064b50;
inline constexpr std::size_t kLocalBytes = 30, kCentralBytes = 46, kEndBytes = 22, kEnd64Bytes = 56, kLocatorBytes = 20;
inline constexpr std::uint32_t kLarge32 = 0xffffffff;  // the number is in the 64-bit extension
inline constexpr std::uint16_t kLarge16 = 0xffff;
inline constexpr std::uint16_t kExtension64 = 1;
inline constexpr std::uint16_t kEncrypted = 1, kUtf8 = 0x800;
inline constexpr std::uint16_t kStored = 0, kDeflated = 8;

/// The little-endian number at a place that is there.
template <typename T>
T number(ByteView bytes, std::size_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

template <typename T>
void put(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

}  // namespace kvzip::zip
