// SPDX-License-Identifier: Apache-2.0
// DEFLATE (RFC 1951) over packed symbols: the entropy stage of KVTC (arXiv 2511.01815), which hands the
// packed integers of a chunk to a general DEFLATE. Symbols take 1, 2, 4 or 8 bits, so that a byte holds whole ones;
// other numbers are bytes as they are. Each stream starts with a byte: 0 = plain form, 1 = raw DEFLATE data; a frame's
// checksum is the container's, so zlib's own framing would only cost.
#include <zlib.h>

#include <algorithm>
#include <limits>
#include <new>

#include "codec/coders/coders.hpp"
#include "codec/fail.hpp"
#include "codec/kernels/bit_packing.hpp"

namespace kvzip {
namespace {

constexpr int kRaw = -MAX_WBITS;  // the largest window, no header, no checksum
constexpr int kMemory = 9;        // zlib's most; changes the bytes, so it is fixed

unsigned symbol_bits(std::uint64_t alphabet) {
  unsigned bits = 1;
  while (alphabet > std::uint64_t{1} << bits) bits *= 2;
  return bits;
}

std::size_t packed_size(const Stream& s) {
  if (s.type == StreamType::elements) return s.count() * s.width;
  const std::size_t per_byte = 8 / symbol_bits(s.alphabet);
  return s.count() / per_byte + (s.count() % per_byte != 0);
}

/// zlib counts a call's bytes in 32 bits: the next of them, from a longer range.
uInt next_part(std::size_t left) {
  return static_cast<uInt>(std::min<std::size_t>(left, std::numeric_limits<uInt>::max()));
}

/// Runs a zlib stream from `in` to `out` until it ends or can go no further; true when all of `in` made exactly all of
/// `out`.
template <typename Step>
bool run(z_stream& z, ByteView in, std::span<std::byte> out, Step&& step) {
  const auto* from = reinterpret_cast<const Bytef*>(in.data());
  auto* to = reinterpret_cast<Bytef*>(out.data());
  const Bytef *from_end = from + in.size(), *to_end = to + out.size();
  for (;;) {
    z.next_in = const_cast<Bytef*>(from);
    z.next_out = to;
    const uInt in_part = next_part(static_cast<std::size_t>(from_end - from));
    const uInt out_part = next_part(static_cast<std::size_t>(to_end - to));
    z.avail_in = in_part;
    z.avail_out = out_part;
    const int result = step(from + in_part == from_end);
    from += in_part - z.avail_in;
    to += out_part - z.avail_out;
    if (result == Z_STREAM_END) return from == from_end && to == to_end;
    if (result != Z_OK || (z.avail_in == in_part && z.avail_out == out_part)) return false;
  }
}

/// Takes memory as everything else does, so that what is kept makes room.
z_stream zlib_stream() {
  z_stream z{};
  z.zalloc = [](void*, uInt count, uInt size) { return ::operator new (std::size_t{count} * size, std::nothrow); };
  z.zfree = [](void*, void* memory) { ::operator delete(memory); };
  return z;
}

Bytes deflated(ByteView plain, int level) {
  // Stored blocks bound the output: 5 bytes for each 65535, and slack for the smaller ones of a short buffer.
  Bytes coded(plain.size() + plain.size() / 1024 + 64);
  z_stream z = zlib_stream();
  if (deflateInit2(&z, level, Z_DEFLATED, kRaw, kMemory, Z_DEFAULT_STRATEGY) != Z_OK) throw std::bad_alloc();
  std::size_t size = 0;
  run(z, plain, coded, [&](bool last) {
    const int result = deflate(&z, last ? Z_FINISH : Z_NO_FLUSH);
    size = static_cast<std::size_t>(z.next_out - reinterpret_cast<Bytef*>(coded.data()));
    return result;
  });
  // Z_DATA_ERROR: freed before its end, which here means that it did not fit.
  const bool whole = deflateEnd(&z) == Z_OK;
  coded.resize(whole ? size : plain.size() + 1);
  return coded;
}

/// Exactly `size` bytes from exactly `coded`: nothing in the data can make it more.
void inflate_into(ByteView coded, std::span<std::byte> plain) {
  z_stream z = zlib_stream();
  if (inflateInit2(&z, kRaw) != Z_OK) throw std::bad_alloc();
  std::byte none{};  // zlib takes no null pointer, even for nothing
  const auto out = plain.empty() ? std::span(&none, 0) : plain;
  bool starved = false;
  const bool whole = run(z, coded, out, [&](bool) {
    const int result = inflate(&z, Z_NO_FLUSH);
    starved = result == Z_MEM_ERROR;
    return result;
  });
  inflateEnd(&z);
  if (starved) throw std::bad_alloc();
  if (!whole) fail(ErrorCode::corrupt, "deflate: a damaged stream");
}

class Deflate final : public Cloned<Deflate, Coder> {
 public:
  void fields(FieldVisitor& v) override { v.integer("level", level_, 1, 9, "compression level"); }

  void encode(const Stream& stream, Bytes&, Bytes& body) const override {
    body.assign(1, std::byte{0});
    pack_stream(stream, body);
    if (stream.type != StreamType::symbols && stream.type != StreamType::elements) return;
    const Buffer<std::uint8_t> plain = packed(stream);
    const Bytes coded = deflated(std::as_bytes(std::span(plain)), static_cast<int>(level_));
    if (1 + coded.size() >= body.size()) return;
    body.assign(1, std::byte{1});
    body.insert(body.end(), coded.begin(), coded.end());
  }

  void decode(Stream& s, ByteView table, ByteView body) const override {
    if (!table.empty()) fail(ErrorCode::corrupt, "deflate has no tables");
    if (body.empty()) fail(ErrorCode::truncated, "an empty stream");
    const auto method = static_cast<unsigned>(body[0]);
    body = body.subspan(1);
    if (method == 0) return unpack_stream(s, body);
    if (method != 1 || (s.type != StreamType::symbols && s.type != StreamType::elements)) {
      fail(ErrorCode::corrupt, "unknown stream method {}", method);
    }
    Buffer<std::uint8_t> plain(packed_size(s));
    inflate_into(body, std::as_writable_bytes(std::span(plain)));
    if (s.type == StreamType::symbols) return unpack(plain, s);
    s.data = std::move(plain);
  }

 private:
  static Buffer<std::uint8_t> packed(const Stream& s) {
    if (s.type == StreamType::elements) return s.data;
    Buffer<std::uint8_t> bytes(packed_size(s));
    kernels::pack_bits(s.data.data(), s.count(), symbol_bits(s.alphabet), bytes.data());
    return bytes;
  }

  static void unpack(const Buffer<std::uint8_t>& bytes, Stream& s) {
    const unsigned width = symbol_bits(s.alphabet);
    s.data.resize(s.count());
    kernels::unpack_bits(bytes.data(), s.count(), width, s.data.data());
    const std::size_t rest = s.count() * width % 8;
    if (rest != 0 && bytes.back() >> rest != 0) fail(ErrorCode::corrupt, "bits are left over");
    const unsigned largest = kernels::largest(s.data.data(), s.data.size());
    if (!s.data.empty() && largest >= s.alphabet) {
      fail(ErrorCode::corrupt, "symbol {} of an alphabet of {}", largest, s.alphabet);
    }
  }

  std::uint64_t level_ = 9;
};

}  // namespace

std::unique_ptr<Coder> make_deflate() {
  return std::make_unique<Deflate>();
}

}  // namespace kvzip
