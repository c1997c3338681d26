// SPDX-License-Identifier: Apache-2.0
// Exact bits: no model, no side information; what a formula in a paper counts.
#include <algorithm>
#include <bit>

#include "codec/bits.hpp"
#include "codec/coders/coders.hpp"
#include "codec/fail.hpp"
#include "codec/kernels/bit_packing.hpp"

namespace kvzip {
namespace {

unsigned bits_of(std::uint64_t alphabet) {
  return alphabet <= 1 ? 0 : static_cast<unsigned>(std::bit_width(alphabet - 1));
}

/// Rice parameter for `taken` uniformly placed positions below n: the gap's mean times ln 2 (11/16), as a power of two.
unsigned rice_parameter(std::uint64_t n, std::uint64_t taken) {
  const std::uint64_t m = taken == 0 ? 0 : (n - taken) * 11 / (16 * taken);
  return m == 0 ? 0 : static_cast<unsigned>(std::bit_width(m)) - 1;
}

void put_positions(const Stream& s, BitWriter& bits) {
  const unsigned k = rice_parameter(s.alphabet, s.cols);
  for (std::size_t r = 0; r < s.rows; ++r) {
    std::uint64_t next = 0;
    for (std::size_t c = 0; c < s.cols; ++c) {
      const std::uint32_t position = s.positions[r * s.cols + c];
      const std::uint64_t gap = position - next;
      std::uint64_t ones = gap >> k;
      for (; ones > 30; ones -= 30) bits.put((1u << 30) - 1, 30);
      bits.put((1u << ones) - 1, static_cast<unsigned>(ones) + 1);
      bits.put(static_cast<std::uint32_t>(gap & ((std::uint64_t{1} << k) - 1)), k);
      next = std::uint64_t{position} + 1;
    }
  }
}

void put_symbols(const Stream& s, Bytes& body) {
  const unsigned width = bits_of(s.alphabet);
  const std::size_t before = body.size();
  body.resize(before + (s.count() * width + 7) / 8);
  if (width != 0) {
    kernels::pack_bits(s.data.data(), s.count(), width, reinterpret_cast<std::uint8_t*>(body.data() + before));
  }
}

void get_symbols(Stream& s, ByteView body) {
  const unsigned width = bits_of(s.alphabet);
  const std::size_t bits = s.count() * width;
  if (body.size() != (bits + 7) / 8) {
    fail(ErrorCode::corrupt, "a stream has {} bytes instead of {}", body.size(), (bits + 7) / 8);
  }
  s.data.resize(s.count());
  if (width == 0) return std::fill(s.data.begin(), s.data.end(), std::uint8_t{0});
  kernels::unpack_bits(reinterpret_cast<const std::uint8_t*>(body.data()), s.count(), width, s.data.data());
  if (bits % 8 != 0 && std::to_integer<unsigned>(body.back()) >> bits % 8 != 0) {
    fail(ErrorCode::corrupt, "bits are left over");
  }
  if (s.alphabet >> width != 0) return;  // every pattern of bits is a symbol
  const unsigned largest = kernels::largest(s.data.data(), s.data.size());
  if (largest >= s.alphabet) fail(ErrorCode::corrupt, "symbol {} of an alphabet of {}", largest, s.alphabet);
}

void get_positions(Stream& s, BitReader& bits) {
  const unsigned k = rice_parameter(s.alphabet, s.cols);
  s.positions.resize(s.count());
  for (std::size_t r = 0; r < s.rows; ++r) {
    std::uint64_t next = 0;
    for (std::size_t c = 0; c < s.cols; ++c) {
      const std::uint64_t ones = bits.get_ones();
      if (ones > s.alphabet >> k) fail(ErrorCode::corrupt, "a position lies beyond its vector");
      const std::uint64_t gap = (ones << k) + bits.get(k);
      if (next + gap >= s.alphabet) fail(ErrorCode::corrupt, "a position lies beyond its vector");
      s.positions[r * s.cols + c] = static_cast<std::uint32_t>(next + gap);
      next += gap + 1;
    }
  }
}

class Pack final : public Cloned<Pack, Coder> {
 public:
  void fields(FieldVisitor&) override {}
  void encode(const Stream& stream, Bytes&, Bytes& body) const override { pack_stream(stream, body); }
  void decode(Stream& stream, ByteView table, ByteView body) const override {
    if (!table.empty()) fail(ErrorCode::corrupt, "pack has no tables");
    unpack_stream(stream, body);
  }
};

}  // namespace

void pack_stream(const Stream& s, Bytes& body) {
  if (s.type == StreamType::elements || s.type == StreamType::bytes) {
    const auto bytes = std::as_bytes(std::span(s.data));
    body.insert(body.end(), bytes.begin(), bytes.end());
    return;
  }
  if (s.type == StreamType::symbols) return put_symbols(s, body);
  ByteWriter writer;
  BitWriter bits(writer);
  put_positions(s, bits);
  bits.close();
  body.insert(body.end(), writer.view().begin(), writer.view().end());
}

void unpack_stream(Stream& s, ByteView body) {
  if (s.type == StreamType::elements || s.type == StreamType::bytes) {
    if (s.type == StreamType::elements && body.size() != s.count() * s.width) {
      fail(ErrorCode::corrupt, "a stream has {} bytes instead of {}", body.size(), s.count() * s.width);
    }
    const auto* p = reinterpret_cast<const std::uint8_t*>(body.data());
    s.data.assign(p, p + body.size());
    return;
  }
  if (s.type == StreamType::symbols) return get_symbols(s, body);
  if (s.count() > body.size() * 8) fail(ErrorCode::corrupt, "a stream of positions is too short");
  BitReader bits(body);
  get_positions(s, bits);
  bits.close();
}

Stream element_plane(const Stream& e, std::uint32_t plane) {
  Stream s = symbol_stream(e.label, e.rows, e.cols, 256, e.head_dim);
  if (!e.data.empty()) {
    s.data.resize(e.count());
    for (std::size_t i = 0; i < s.data.size(); ++i) s.data[i] = e.data[i * e.width + plane];
  }
  return s;
}

void set_element_plane(Stream& e, std::uint32_t plane, const Stream& symbols) {
  e.data.resize(e.count() * e.width);
  for (std::size_t i = 0; i < symbols.data.size(); ++i) e.data[i * e.width + plane] = symbols.data[i];
}

std::unique_ptr<Coder> make_pack() {
  return std::make_unique<Pack>();
}

}  // namespace kvzip
