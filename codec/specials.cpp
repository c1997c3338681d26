// SPDX-License-Identifier: Apache-2.0
#include "codec/specials.hpp"

#include <cstring>

#include "codec/bytes.hpp"
#include "codec/fail.hpp"

namespace kvzip {

Bytes specials_bytes(const std::vector<std::size_t>& at, ByteView elements, std::size_t unit) {
  ByteWriter out;
  out.put_varint(at.size());
  std::size_t next = 0;
  for (const std::size_t i : at) {
    out.put_varint(i - next);
    next = i + 1;
  }
  for (const std::size_t i : at) out.put_bytes(elements.subspan(i * unit, unit));
  return std::move(out.bytes());
}

void restore_specials(ByteView body, std::size_t unit, std::span<std::byte> elements) {
  ByteReader in(body);
  const std::uint64_t count = in.get_varint(), values = elements.size() / unit;
  if (count == 0 || count > in.left()) fail(ErrorCode::corrupt, "{} special values", count);
  std::vector<std::size_t> at;
  std::uint64_t next = 0;
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::uint64_t gap = in.get_varint();
    if (gap >= values - next) fail(ErrorCode::corrupt, "a special value beyond the tile");
    at.push_back(next + gap);
    next += gap + 1;
  }
  for (const std::size_t i : at) std::memcpy(elements.data() + i * unit, in.take(unit).data(), unit);
  in.expect_end();
}

}  // namespace kvzip
