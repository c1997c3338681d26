// SPDX-License-Identifier: Apache-2.0
// Symbols of a few rows of a column as their least one and, in as many bits as the largest needs, the distances from
// it: PackKV (arXiv 2512.24449).
#include <algorithm>
#include <bit>

#include "codec/bits.hpp"
#include "codec/coders/coders.hpp"
#include "codec/fail.hpp"

namespace kvzip {
namespace {

unsigned bits_for(std::uint64_t largest) {
  return static_cast<unsigned>(std::bit_width(largest));
}

/// Bits of a least symbol and of a width.
struct Header {
  unsigned least, width;
  explicit Header(std::uint64_t alphabet)
      : least(bits_for(std::max<std::uint64_t>(alphabet, 1) - 1)), width(bits_for(least)) {}
};

class Packs final : public Cloned<Packs, Coder> {
 public:
  void fields(FieldVisitor& v) override { v.integer("rows", rows_, 1, 256, "rows of a column that share a width"); }

  void encode(const Stream& stream, Bytes&, Bytes& body) const override {
    body.assign(1, std::byte{0});
    pack_stream(stream, body);
    if (stream.type != StreamType::symbols) return;
    ByteWriter writer;
    BitWriter bits(writer);
    for (std::size_t r = 0; r < stream.rows; r += rows_) {
      for (std::size_t c = 0; c < stream.cols; ++c) put(stream, r, c, bits);
    }
    bits.close();
    const ByteView coded = writer.view();
    if (1 + coded.size() >= body.size()) return;
    body.assign(1, std::byte{1});
    body.insert(body.end(), coded.begin(), coded.end());
  }

  void decode(Stream& s, ByteView table, ByteView body) const override {
    if (!table.empty()) fail(ErrorCode::corrupt, "packs has no tables");
    if (body.empty()) fail(ErrorCode::truncated, "an empty stream");
    const auto method = static_cast<unsigned>(body[0]);
    body = body.subspan(1);
    if (method == 0) return unpack_stream(s, body);
    if (method != 1 || s.type != StreamType::symbols) {
      fail(ErrorCode::corrupt, "unknown stream method {}", method);
    }
    const Header header(s.alphabet);
    const std::uint64_t packs = (std::uint64_t{s.rows} + rows_ - 1) / rows_ * s.cols;
    if (packs * (header.least + header.width) > body.size() * std::uint64_t{8}) {
      fail(ErrorCode::truncated, "the bits end too early");
    }
    s.data.resize(s.count());
    BitReader bits(body);
    for (std::size_t r = 0; r < s.rows; r += rows_) {
      for (std::size_t c = 0; c < s.cols; ++c) get(s, r, c, bits);
    }
    bits.close();
  }

 private:
  std::size_t end(const Stream& s, std::size_t first) const { return std::min<std::size_t>(s.rows, first + rows_); }

  void put(const Stream& s, std::size_t first, std::size_t c, BitWriter& bits) const {
    unsigned least = 255, most = 0;
    for (std::size_t r = first; r < end(s, first); ++r) {
      least = std::min<unsigned>(least, s.data[r * s.cols + c]);
      most = std::max<unsigned>(most, s.data[r * s.cols + c]);
    }
    const Header header(s.alphabet);
    const unsigned width = bits_for(most - least);
    bits.put(least, header.least);
    bits.put(width, header.width);
    for (std::size_t r = first; r < end(s, first); ++r) bits.put(s.data[r * s.cols + c] - least, width);
  }

  void get(Stream& s, std::size_t first, std::size_t c, BitReader& bits) const {
    const Header header(s.alphabet);
    const std::uint64_t least = bits.get(header.least);
    const unsigned width = bits.get(header.width);
    if (width > 8) fail(ErrorCode::corrupt, "symbols of {} bits", width);
    for (std::size_t r = first; r < end(s, first); ++r) {
      const std::uint64_t symbol = least + bits.get(width);
      if (symbol >= s.alphabet) fail(ErrorCode::corrupt, "symbol {} of an alphabet of {}", symbol, s.alphabet);
      s.data[r * s.cols + c] = static_cast<std::uint8_t>(symbol);
    }
  }

  std::uint64_t rows_ = 16;
};

}  // namespace

std::unique_ptr<Coder> make_packs() {
  return std::make_unique<Packs>();
}

}  // namespace kvzip
