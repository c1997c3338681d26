// SPDX-License-Identifier: Apache-2.0
// zstd over symbol bytes, element planes and free bytes: the general-purpose yardstick, and the coder of what has no
// better model. Each stream starts with a byte: 0 = plain form, 1 = one zstd frame (RFC 8878).
#include <zstd.h>
#include <zstd_errors.h>

#include <algorithm>
#include <array>
#include <new>

#include "codec/buffer.hpp"
#include "codec/coders/coders.hpp"
#include "codec/fail.hpp"

namespace kvzip {
namespace {

constexpr std::array<std::byte, 4> kFrameMagic{std::byte{0x28}, std::byte{0xb5}, std::byte{0x2f}, std::byte{0xfd}};

/// The library's own memory does not ask for what is kept, as operator new does: that is given up first.
template <typename Call>
std::size_t with_room(const Call& call) {
  for (;;) {
    const std::size_t size = call();
    if (ZSTD_getErrorCode(size) != ZSTD_error_memory_allocation) return size;
    if (!release_kept_memory()) throw std::bad_alloc();
  }
}

class Zstd final : public Cloned<Zstd, Coder> {
 public:
  void fields(FieldVisitor& v) override { v.integer("level", level_, 1, 22, "compression level"); }

  void encode(const Stream& stream, Bytes&, Bytes& body) const override {
    body.assign(1, std::byte{0});
    pack_stream(stream, body);
    if (stream.type == StreamType::positions) return;
    const Buffer<std::uint8_t> plain = by_planes(stream);
    Bytes coded(1 + ZSTD_compressBound(plain.size()), std::byte{1});
    const std::size_t size = with_room([&] {
      return ZSTD_compress(coded.data() + 1, coded.size() - 1, plain.data(), plain.size(), static_cast<int>(level_));
    });
    if (ZSTD_isError(size) != 0) fail(ErrorCode::io, "zstd: {}", ZSTD_getErrorName(size));
    coded.resize(1 + size);
    if (stream.type == StreamType::bytes && plain.size() > most_bytes(size)) return;  // which decode refuses
    if (coded.size() < body.size()) body = std::move(coded);
  }

  void decode(Stream& s, ByteView table, ByteView body) const override {
    if (!table.empty()) fail(ErrorCode::corrupt, "zstd has no tables");
    if (body.empty()) fail(ErrorCode::truncated, "an empty stream");
    const auto method = static_cast<unsigned>(body[0]);
    body = body.subspan(1);
    if (method == 0) return unpack_stream(s, body);
    if (method != 1 || s.type == StreamType::positions) fail(ErrorCode::corrupt, "unknown stream method {}", method);
    // One frame, nothing beside it: the library by itself would take several, and skip what it may skip.
    if (body.size() < kFrameMagic.size() || !std::equal(kFrameMagic.begin(), kFrameMagic.end(), body.begin()) ||
        ZSTD_findFrameCompressedSize(body.data(), body.size()) != body.size()) {
      fail(ErrorCode::corrupt, "zstd: not one frame");
    }
    Buffer<std::uint8_t> plain(plain_size(s, body));
    const std::size_t size =
        with_room([&] { return ZSTD_decompress(plain.data(), plain.size(), body.data(), body.size()); });
    if (ZSTD_isError(size) != 0 || size != plain.size()) fail(ErrorCode::corrupt, "zstd: a damaged stream");
    s.data = std::move(plain);
    if (s.type == StreamType::elements) join(s);
    if (s.type == StreamType::symbols && s.alphabet < 256) {
      for (const std::uint8_t symbol : s.data) {
        if (symbol >= s.alphabet) fail(ErrorCode::corrupt, "symbol {} of an alphabet of {}", symbol, s.alphabet);
      }
    }
  }

 private:
  /// Free bytes are short lists; what claims to unfold more than a thousandfold is no such list.
  static std::size_t most_bytes(std::size_t coded) { return 4096 + coded * 1024; }
  static std::size_t plain_size(const Stream& s, ByteView body) {
    if (s.type == StreamType::symbols) return s.count();
    if (s.type == StreamType::elements) return s.count() * s.width;
    const auto size = ZSTD_getFrameContentSize(body.data(), body.size());
    if (size == ZSTD_CONTENTSIZE_ERROR || size == ZSTD_CONTENTSIZE_UNKNOWN || size > most_bytes(body.size())) {
      fail(ErrorCode::corrupt, "zstd: a damaged stream");
    }
    return static_cast<std::size_t>(size);
  }
  static Buffer<std::uint8_t> by_planes(const Stream& s) {
    if (s.type != StreamType::elements || s.width == 1) return s.data;
    Buffer<std::uint8_t> planes(s.data.size());
    const std::size_t n = s.count();
    for (std::size_t i = 0; i < n; ++i) {
      for (std::size_t p = 0; p < s.width; ++p) planes[p * n + i] = s.data[i * s.width + p];
    }
    return planes;
  }
  static void join(Stream& s) {
    if (s.width == 1) return;
    Buffer<std::uint8_t> elements(s.data.size());
    const std::size_t n = s.count();
    for (std::size_t i = 0; i < n; ++i) {
      for (std::size_t p = 0; p < s.width; ++p) elements[i * s.width + p] = s.data[p * n + i];
    }
    s.data = std::move(elements);
  }

  std::uint64_t level_ = 3;
};

}  // namespace

std::unique_ptr<Coder> make_zstd() {
  return std::make_unique<Zstd>();
}

std::string zstd_version() {
  return ZSTD_versionString();
}

}  // namespace kvzip
