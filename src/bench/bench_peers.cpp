// SPDX-License-Identifier: Apache-2.0
// What speed is compared to: memcpy, the most a machine can do with bytes, and zstd as everybody has it, one frame for
// each tensor, contexts and buffers reused.
#include <zstd.h>

#include <cstring>

#include "codec/fail.hpp"
#include "src/bench/bench_codecs.hpp"

namespace kvzip::tool {
namespace {

class Copy final : public Peer {
 public:
  explicit Copy(const std::vector<Bytes>& tensors) : Peer(tensors), copies_(tensors) {}
  ByteView encode(std::size_t piece, std::span<double>) override {
    const ByteView from = source(piece);
    std::memcpy(copies_[piece].data(), from.data(), from.size());
    return copies_[piece];
  }
  void decode(std::size_t, ByteView coded, std::span<std::byte> out, std::span<double>) override {
    std::memcpy(out.data(), coded.data(), coded.size());
  }

 private:
  std::vector<Bytes> copies_;
};

class PlainZstd final : public Peer {
 public:
  PlainZstd(const std::vector<Bytes>& tensors, int level)
      : Peer(tensors), level_(level), encoder_(ZSTD_createCCtx()), decoder_(ZSTD_createDCtx()) {
    if (encoder_ == nullptr || decoder_ == nullptr) throw std::bad_alloc();
    std::size_t largest = 0;
    for (const Bytes& tensor : tensors) largest = std::max(largest, tensor.size());
    coded_.resize(ZSTD_compressBound(largest));
  }
  ByteView encode(std::size_t piece, std::span<double>) override {
    const ByteView from = source(piece);
    const std::size_t size =
        ZSTD_compressCCtx(encoder_.get(), coded_.data(), coded_.size(), from.data(), from.size(), level_);
    if (ZSTD_isError(size) != 0) fail(ErrorCode::io, "zstd: {}", ZSTD_getErrorName(size));
    return std::span(coded_).first(size);
  }
  void decode(std::size_t, ByteView coded, std::span<std::byte> out, std::span<double>) override {
    const std::size_t size = ZSTD_decompressDCtx(decoder_.get(), out.data(), out.size(), coded.data(), coded.size());
    if (ZSTD_isError(size) != 0) fail(ErrorCode::io, "zstd: {}", ZSTD_getErrorName(size));
  }

 private:
  struct Free {
    void operator()(ZSTD_CCtx* context) const { ZSTD_freeCCtx(context); }
    void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
  };
  int level_;
  std::unique_ptr<ZSTD_CCtx, Free> encoder_;
  std::unique_ptr<ZSTD_DCtx, Free> decoder_;
  Bytes coded_;
};

}  // namespace

std::unique_ptr<Codec> make_copy(const std::vector<Bytes>& tensors) {
  return std::make_unique<Copy>(tensors);
}

std::unique_ptr<Codec> make_zstd_peer(const std::vector<Bytes>& tensors, int level) {
  return std::make_unique<PlainZstd>(tensors, level);
}

}  // namespace kvzip::tool
