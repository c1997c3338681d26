// SPDX-License-Identifier: Apache-2.0
// Little-endian bytes and varints (LEB128, at most 10 bytes), bounds-checked on reading.
#pragma once

#include <cstring>
#include <span>
#include <type_traits>
#include <vector>

#include "codec/fail.hpp"
#include "kvzip/dtype.hpp"

namespace kvzip {

class ByteWriter {
 public:
  template <typename T>
  void put(T value) {
    static_assert(std::is_trivially_copyable_v<T>);
    const auto* p = reinterpret_cast<const std::byte*>(&value);
    bytes_.insert(bytes_.end(), p, p + sizeof value);
  }
  void put_bytes(ByteView view) { bytes_.insert(bytes_.end(), view.begin(), view.end()); }
  void put_varint(std::uint64_t value) {
    for (; value >= 0x80; value >>= 7) bytes_.push_back(static_cast<std::byte>(value | 0x80));
    bytes_.push_back(static_cast<std::byte>(value));
  }
  std::size_t size() const { return bytes_.size(); }
  ByteView view() const { return bytes_; }
  Bytes& bytes() { return bytes_; }

 private:
  Bytes bytes_;
};

class ByteReader {
 public:
  explicit ByteReader(ByteView view) : view_(view) {}
  template <typename T>
  T get() {
    static_assert(std::is_trivially_copyable_v<T>);
    T value;
    std::memcpy(&value, take(sizeof value).data(), sizeof value);
    return value;
  }
  ByteView take(std::uint64_t n) {
    if (n > left()) fail(ErrorCode::truncated, "{} bytes needed, {} left", n, left());
    const ByteView part = view_.subspan(at_, n);
    at_ += n;
    return part;
  }
  std::uint64_t get_varint() {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      const auto byte = get<std::uint8_t>();
      if (shift == 63 && byte > 1) break;
      value |= static_cast<std::uint64_t>(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    fail(ErrorCode::corrupt, "a varint is longer than 64 bits");
  }
  std::size_t left() const { return view_.size() - at_; }
  void expect_end() const {
    if (left() != 0) fail(ErrorCode::corrupt, "{} bytes are left over", left());
  }

 private:
  ByteView view_;
  std::size_t at_ = 0;
};

}  // namespace kvzip
