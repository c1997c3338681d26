// SPDX-License-Identifier: Apache-2.0
#include "kvzip/tile_codec.hpp"

#include <atomic>

#include "codec/fail.hpp"
#include "codec/limits.hpp"
#include "codec/pipeline.hpp"
#include "kvzip/trust.hpp"

namespace kvzip {
namespace {

std::atomic<bool> g_trusted = false;

}  // namespace

void trust_files(bool trusted) {
  g_trusted = trusted;
}

bool trusts_files() {
  return g_trusted;
}

struct TileCodec::Parts {
  TileFormat format;
  TileContext context;
  Pipeline pipeline;

  TileShape shape(std::size_t bytes, std::uint64_t first_token) const {
    const std::size_t row = format.row_bytes();
    if (bytes == 0 || bytes % row != 0) {
      fail(ErrorCode::invalid_argument, "{} bytes are no whole rows of {} bytes", bytes, row);
    }
    const std::uint64_t rows = bytes / row, cols = context.channels();
    if (rows > limits::kFrameValues / cols) {
      fail(ErrorCode::limit, "a tile of {} rows of {} channels: a tile has at most {} elements", rows, cols,
           limits::kFrameValues);
    }
    if (first_token > std::uint64_t(-1) - rows) fail(ErrorCode::invalid_argument, "a sequence longer than 2^64 tokens");
    return {static_cast<std::uint32_t>(rows), context.channels(), first_token};
  }
  /// Of a tile of this shape.
  TileContext context_for(TileShape shape) const {
    TileContext c = context;
    if (c.total_tokens == 0) c.total_tokens = shape.first_token + shape.rows;
    return c;
  }
};

namespace {

TileContext context_of(const TileFormat& format) {
  const std::uint64_t channels = std::uint64_t{format.heads} * format.head_dim;
  if (channels == 0 || channels > 0xffffffffu) {
    fail(ErrorCode::invalid_argument, "{} heads of {} channels", format.heads, format.head_dim);
  }
  if (format.role == Role::pair || format.role == Role::other) {
    fail(ErrorCode::invalid_argument, "a tile holds keys, values or queries, not '{}'", role_name(format.role));
  }
  if (dtype_bits(format.dtype) < 8) {
    fail(ErrorCode::invalid_argument, "{}: elements share bytes", dtype_name(format.dtype));
  }
  TileContext context;
  context.role = format.role;
  context.heads = format.heads;
  context.head_dim = format.head_dim;
  context.total_tokens = format.total_tokens;
  context.source = format.dtype;
  context.rope = format.rope;
  return context;
}

}  // namespace

TileCodec::TileCodec(std::string_view pipeline, const TileFormat& format, std::uint32_t most_tokens) {
  auto parts = std::make_unique<Parts>(Parts{format, context_of(format), Pipeline::parse(pipeline)});
  const TileShape largest{most_tokens, parts->context.channels(), 0};
  parts->pipeline.resolve(parts->context_for(largest), largest);
  parts_ = std::move(parts);
}

TileCodec::~TileCodec() = default;
TileCodec::TileCodec(TileCodec&&) noexcept = default;
TileCodec& TileCodec::operator=(TileCodec&&) noexcept = default;

const TileFormat& TileCodec::format() const {
  return parts_->format;
}

std::string TileCodec::pipeline() const {
  return parts_->pipeline.text(true);
}

Bytes TileCodec::encode(ByteView elements, std::uint64_t first_token) const {
  const TileShape shape = parts_->shape(elements.size(), first_token);
  return parts_->pipeline.encode(parts_->context_for(shape), shape, elements);
}

void TileCodec::decode(ByteView coded, std::span<std::byte> elements, std::uint64_t first_token) const {
  const TileShape shape = parts_->shape(elements.size(), first_token);
  const TileContext context = parts_->context_for(shape);
  const auto decoded = static_cast<double>(elements.size()), stored = static_cast<double>(coded.size());
  if (!trusts_files() && !limits::earned(parts_->pipeline.work(context, shape), decoded, stored)) {
    fail(ErrorCode::limit, "{} bytes ask for more work than their number allows", coded.size());
  }
  parts_->pipeline.decode(context, shape, coded, elements);
}

}  // namespace kvzip
