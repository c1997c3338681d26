// SPDX-License-Identifier: Apache-2.0
#include "codec/specials.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "codec/bytes.hpp"
#include "codec/fail.hpp"

namespace kvzip {
namespace {

/// Values so far beyond the others that they can only be what was never written, such as memory not set: from here on,
/// this many times the median magnitude.
constexpr float kStray = 8192;

/// The magnitude from which values are strays; infinity where none is, or where a median of 0 says nothing.
float stray_from(std::span<const float> values, float largest) {
  constexpr std::size_t kSamples = 256;  // enough for a bound this far away
  const std::size_t every = std::max<std::size_t>(1, values.size() / kSamples);
  const std::size_t samples = (values.size() + every - 1) / every;
  // Most tiles have none, and half of the samples show it.
  std::size_t above = 0;
  for (std::size_t i = 0; i < values.size() && above <= samples / 2; i += every) {
    above += std::fabs(values[i]) > largest / kStray ? 1 : 0;
  }
  if (above > samples / 2 || samples == 0) return std::numeric_limits<float>::infinity();
  std::vector<float> some;
  for (std::size_t i = 0; i < values.size(); i += every) some.push_back(std::fabs(values[i]));
  const auto middle = some.begin() + static_cast<std::ptrdiff_t>(some.size() / 2);
  std::nth_element(some.begin(), middle, some.end());
  return *middle > 0 ? *middle * kStray : std::numeric_limits<float>::infinity();
}

}  // namespace

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

void take_strays(std::span<float> values, std::size_t cols, float largest, std::vector<std::size_t>& at) {
  const float from = stray_from(values, largest);
  if (!(from <= largest)) return;
  std::vector<std::size_t> strays;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (std::fabs(values[i]) >= from) strays.push_back(i);
  }
  if (strays.size() > values.size() / 256) return;
  for (const std::size_t i : strays) values[i] = i >= cols ? values[i - cols] : 0.0f;
  const auto middle = static_cast<std::ptrdiff_t>(at.size());
  at.insert(at.end(), strays.begin(), strays.end());
  std::inplace_merge(at.begin(), at.begin() + middle, at.end());
  // What was not finite had the value above it in its place, which may have been a stray.
  at.erase(std::unique(at.begin(), at.end()), at.end());
}

}  // namespace kvzip
