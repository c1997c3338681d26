// SPDX-License-Identifier: Apache-2.0
// Frame of reference (Goldstein, Ramakrishnan, Shaft, ICDE 1998), on a map of the elements' bits that keeps the order
// of floats: negative ones count downwards from the middle.
#include "codec/coders/rans_range.hpp"

#include <algorithm>
#include <bit>

#include "codec/bits.hpp"
#include "codec/fail.hpp"

namespace kvzip {
namespace {

std::uint32_t all_ones(std::uint32_t width) {
  return static_cast<std::uint32_t>((std::uint64_t{1} << 8 * width) - 1);
}

std::uint32_t sign_of(std::uint32_t width) {
  return (all_ones(width) >> 1) + 1;
}

std::uint32_t ordered(std::uint32_t bits, std::uint32_t width) {
  return (bits & sign_of(width)) != 0 ? bits ^ all_ones(width) : bits | sign_of(width);
}

std::uint32_t unordered(std::uint32_t place, std::uint32_t width) {
  return (place & sign_of(width)) != 0 ? place ^ sign_of(width) : place ^ all_ones(width);
}

}  // namespace

bool range_encode(const Stream& s, Bytes& body) {
  if (s.width == 0 || s.width > 4 || s.count() == 0) return false;
  std::vector<std::uint32_t> places(s.count());
  for (std::size_t i = 0; i < places.size(); ++i) {
    std::uint32_t bits = 0;
    for (std::uint32_t b = 0; b < s.width; ++b) bits |= std::uint32_t{s.data[i * s.width + b]} << 8 * b;
    places[i] = ordered(bits, s.width);
  }
  const auto [least, most] = std::minmax_element(places.begin(), places.end());
  const std::uint32_t smallest = *least;
  const auto bits = static_cast<unsigned>(std::bit_width(*most - smallest));
  if (1 + s.width + (places.size() * bits + 7) / 8 >= s.data.size()) return false;
  ByteWriter out;
  out.put(static_cast<std::uint8_t>(bits));
  for (std::uint32_t b = 0; b < s.width; ++b) out.put(static_cast<std::uint8_t>(smallest >> 8 * b));
  BitWriter writer(out);
  for (const std::uint32_t place : places) writer.put(place - smallest, bits);
  writer.close();
  body.insert(body.end(), out.view().begin(), out.view().end());
  return true;
}

void range_decode(Stream& s, ByteView body) {
  ByteReader in(body);
  const auto bits = in.get<std::uint8_t>();
  if (s.width == 0 || s.width > 4 || bits > 8 * s.width) fail(ErrorCode::corrupt, "distances of {} bits", bits);
  std::uint32_t smallest = 0;
  for (std::uint32_t b = 0; b < s.width; ++b) smallest |= std::uint32_t{in.get<std::uint8_t>()} << 8 * b;
  const ByteView distances = in.take(in.left());
  if (distances.size() != (s.count() * bits + 7) / 8)
    fail(ErrorCode::corrupt, "{} bytes of distances", distances.size());
  s.data.resize(s.count() * s.width);
  BitReader reader(distances);
  for (std::size_t i = 0; i < s.count(); ++i) {
    const std::uint32_t element = unordered((smallest + reader.get(bits)) & all_ones(s.width), s.width);
    for (std::uint32_t b = 0; b < s.width; ++b) s.data[i * s.width + b] = static_cast<std::uint8_t>(element >> 8 * b);
  }
  reader.close();
}

}  // namespace kvzip
