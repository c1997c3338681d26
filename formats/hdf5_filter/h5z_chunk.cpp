// SPDX-License-Identifier: Apache-2.0
#include "formats/hdf5_filter/h5z_chunk.hpp"

#include <fmt/ranges.h>
#include <xxhash.h>

#include <cstring>
#include <string>
#include <string_view>

#include "codec/bytes.hpp"
#include "codec/fail.hpp"
#include "codec/limits.hpp"
#include "formats/hdf5_filter/h5z_settings.hpp"
#include "kvzip/error.hpp"

namespace kvzip::h5z {
namespace {

constexpr std::uint8_t kVersion = 1;

std::size_t bytes_of(const Settings& settings) {
  return settings.format.row_bytes() * settings.tokens();
}

/// Builds what would code a chunk.
TileCodec codec_of(const Settings& settings) {
  return TileCodec(settings.pipeline, settings.format, static_cast<std::uint32_t>(settings.tokens()));
}

std::size_t exponent_bits(DType dtype) {
  switch (dtype) {
    case DType::f16:
    case DType::f8_e5m2:
    case DType::f8_e5m2fnuz:
      return 5;
    case DType::f8_e4m3:
    case DType::f8_e4m3fnuz:
      return 4;
    case DType::f64:
      return 11;
    default:  // f32 and bf16
      return 8;
  }
}

/// move(in the chunk, in the tile, bytes) for each run of channels that lie side by side in both.
template <typename Move>
void for_each_run(const Settings& settings, Move&& move) {
  std::uint64_t outer = 1, inner = settings.format.row_bytes();  // bytes of a token, here of one entry before it
  for (std::size_t axis = 0; axis < settings.token_axis; ++axis) outer *= settings.shape[axis];
  inner /= outer;
  const std::uint64_t tokens = settings.tokens(), row = settings.format.row_bytes();
  for (std::uint64_t o = 0; o < outer; ++o) {
    for (std::uint64_t t = 0; t < tokens; ++t) move((o * tokens + t) * inner, t * row + o * inner, inner);
  }
}

}  // namespace

void check_settings(std::string_view text) {
  codec_of(parse_settings(text));
}

void check_dataset(std::span<const unsigned> parameters, const Dataset& dataset) {
  const Settings settings = parse_settings(parameters);
  codec_of(settings);
  if (dataset.chunk != settings.shape) {
    fail(ErrorCode::invalid_argument, "chunks of {}, where the filter's settings say shape={}",
         fmt::join(dataset.chunk, "x"), fmt::join(settings.shape, ","));
  }
  const DType dtype = settings.format.dtype;
  if (dataset.element_bytes != dtype_unit(dtype) ||
      dataset.exponent_bits.value_or(exponent_bits(dtype)) != exponent_bits(dtype)) {
    fail(ErrorCode::invalid_argument, "the dataset's type is not the filter's dtype={}", dtype_name(dtype));
  }
  if (!dataset.little_endian) fail(ErrorCode::invalid_argument, "the dataset's type is not little-endian");
}

std::size_t chunk_bytes(std::span<const unsigned> parameters, ByteView coded) {
  const Settings settings = parse_settings(parameters);
  const std::size_t bytes = bytes_of(settings);
  if (coded.size() < limits::least_payload(bytes / dtype_unit(settings.format.dtype))) {
    fail(ErrorCode::truncated, "a coded chunk of {} bytes for {}", coded.size(), bytes);
  }
  return bytes;
}

Bytes encode_chunk(std::span<const unsigned> parameters, ByteView chunk) {
  const Settings settings = parse_settings(parameters);
  if (chunk.size() != bytes_of(settings)) {
    fail(ErrorCode::invalid_argument, "a chunk of {} bytes, where the filter's settings make it {}", chunk.size(),
         bytes_of(settings));
  }
  Bytes tile(chunk.size());
  for_each_run(settings, [&](std::uint64_t from, std::uint64_t to, std::uint64_t bytes) {
    std::memcpy(tile.data() + to, chunk.data() + from, bytes);
  });
  const TileCodec codec = codec_of(settings);
  ByteWriter body;
  const std::string pipeline = codec.pipeline();
  body.put_varint(pipeline.size());
  body.put_bytes(std::as_bytes(std::span(pipeline)));
  body.put_bytes(codec.encode(tile));
  ByteWriter out;
  out.put(kVersion);
  out.put(XXH3_64bits(body.view().data(), body.size()));
  out.put_bytes(body.view());
  return std::move(out.bytes());
}

void decode_chunk(std::span<const unsigned> parameters, ByteView coded, std::span<std::byte> chunk) {
  const Settings settings = parse_settings(parameters);
  if (chunk.size() != bytes_of(settings)) fail(ErrorCode::invalid_argument, "memory for another chunk");
  ByteReader in(coded);
  if (const auto version = in.get<std::uint8_t>(); version != kVersion) {
    fail(ErrorCode::unsupported, "version {} of coded chunks", version);
  }
  const auto hash = in.get<std::uint64_t>();
  const ByteView body = in.take(in.left());
  if (hash != XXH3_64bits(body.data(), body.size())) fail(ErrorCode::corrupt, "a coded chunk is damaged");
  in = ByteReader(body);
  const ByteView text = in.take(in.get_varint());
  const TileCodec codec({reinterpret_cast<const char*>(text.data()), text.size()}, settings.format,
                        static_cast<std::uint32_t>(settings.tokens()));
  Bytes tile(chunk.size());
  codec.decode(in.take(in.left()), tile);
  for_each_run(settings, [&](std::uint64_t to, std::uint64_t from, std::uint64_t bytes) {
    std::memcpy(chunk.data() + to, tile.data() + from, bytes);
  });
}

}  // namespace kvzip::h5z
