// SPDX-License-Identifier: Apache-2.0
// Chunks of HDF5 datasets through the filter: what the settings mean, and damaged chunks. python/tests/test_hdf5.py has
// HDF5 load it.
#include <doctest/doctest.h>

#include <cstring>
#include <string>
#include <vector>

#include "formats/hdf5_filter/h5z_chunk.hpp"
#include "kvzip/error.hpp"
#include "kvzip/rules.hpp"
#include "kvzip/tile_codec.hpp"

namespace kvzip {
namespace {

constexpr std::size_t kBatch = 2, kHeads = 3, kTokens = 10, kDim = 4, kChannels = kBatch * kHeads * kDim;

std::vector<unsigned> parameters(const std::string& text) {
  std::vector<unsigned> words((text.size() + 3) / 4);
  std::memcpy(words.data(), text.data(), text.size());
  return words;
}

std::vector<float> numbers() {
  std::vector<float> out(kTokens * kChannels);
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<float>((i * 37) % 101) - 50.0f;
  return out;
}

ByteView bytes_of(const std::vector<float>& values) {
  return std::as_bytes(std::span(values));
}

std::vector<float> through(const std::string& settings, const std::vector<float>& values) {
  const std::vector<unsigned> words = parameters(settings);
  const Bytes coded = h5z::encode_chunk(words, bytes_of(values));
  REQUIRE(h5z::chunk_bytes(words, coded) == values.size() * 4);
  std::vector<float> out(values.size());
  h5z::decode_chunk(words, coded, std::as_writable_bytes(std::span(out)));
  return out;
}

TEST_CASE("hdf5 filter: exact pipelines give back each chunk, whatever its axes") {
  const std::vector<float> values = numbers();
  for (const char* axes : {"axes=BHTD shape=2,3,10,4", "axes=THD shape=10,6,4", "axes=BTHD shape=2,10,3,4",
                           "axes=TD shape=10,24", "axes=HTC shape=1,10,24"}) {
    CAPTURE(axes);
    CHECK(through(std::string("dtype=F32 role=key ") + axes + " preset=lossless", values) == values);
    CHECK(through(std::string("dtype=F32 role=value ") + axes + " pipeline=planes,zstd", values) == values);
  }
}

TEST_CASE("hdf5 filter: a tile has a row for each token, its heads side by side") {
  const std::vector<float> values = numbers();
  // From [B, H, T, D]: one scale for each channel needs the same channel of all tokens in one column.
  std::vector<float> rows(values.size()), expected(values.size());
  for (std::size_t h = 0; h < kBatch * kHeads; ++h) {
    for (std::size_t t = 0; t < kTokens; ++t) {
      for (std::size_t d = 0; d < kDim; ++d) {
        rows[t * kChannels + h * kDim + d] = values[(h * kTokens + t) * kDim + d];
      }
    }
  }
  const std::string pipeline = "quant:bits=3:axis=channel:group=0,pack";
  const TileCodec codec(pipeline, {Role::key, DType::f32, kBatch * kHeads, kDim, 0, {}}, kTokens);
  const Bytes coded = codec.encode(bytes_of(rows));
  codec.decode(coded, std::as_writable_bytes(std::span(rows)));
  for (std::size_t h = 0; h < kBatch * kHeads; ++h) {
    for (std::size_t t = 0; t < kTokens; ++t) {
      for (std::size_t d = 0; d < kDim; ++d) {
        expected[(h * kTokens + t) * kDim + d] = rows[t * kChannels + h * kDim + d];
      }
    }
  }
  CHECK(through("dtype=F32 shape=2,3,10,4 axes=BHTD role=key pipeline=" + pipeline, values) == expected);
}

TEST_CASE("hdf5 filter: a preset's rule is that of the role and the layer, and is kept with the chunk") {
  const std::vector<float> values = numbers();
  const std::string rest = "dtype=F32 shape=10,24 axes=TD ";
  const std::vector<unsigned> low = parameters(rest + "role=key layer=0 layers=32 preset=cachegen-2");
  const std::vector<unsigned> high = parameters(rest + "role=key layer=31 layers=32 preset=cachegen-2");
  const Bytes a = h5z::encode_chunk(low, bytes_of(values)), b = h5z::encode_chunk(high, bytes_of(values));
  const auto has = [](const Bytes& bytes, std::string_view text) {
    return std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()).find(text) != std::string::npos;
  };
  CHECK(has(a, "levels=31"));
  CHECK(has(b, "levels=15"));
  // Whoever decodes follows the chunk, not the preset as it is then.
  std::vector<float> from_low(values.size()), from_high(values.size());
  h5z::decode_chunk(low, a, std::as_writable_bytes(std::span(from_low)));
  h5z::decode_chunk(high, a, std::as_writable_bytes(std::span(from_high)));
  CHECK(from_low == from_high);
}

TEST_CASE("hdf5 filter: settings that make no sense are refused") {
  const std::string good = "dtype=F32 shape=10,24 axes=TD role=key preset=lossless";
  const std::vector<float> values = numbers();
  CHECK_NOTHROW(h5z::encode_chunk(parameters(good), bytes_of(values)));
  for (const char* bad : {"",
                          "dtype=F32",
                          "dtype",
                          "x=1 dtype=F32 shape=10,24 axes=TD role=key preset=lossless",
                          "dtype=I32 shape=10,24 axes=TD role=key preset=lossless",
                          "dtype=F32 shape=10,24 axes=TD role=key",
                          "dtype=F32 shape=10,24 axes=TD role=other preset=lossless",
                          "dtype=F32 shape=10,24 axes=DT role=key preset=lossless",
                          "dtype=F32 shape=10,24 axes=XD role=key preset=lossless",
                          "dtype=F32 shape=10,24 axes=TTD role=key preset=lossless",
                          "dtype=F32 shape=10,24 axes=TTD role=key preset=lossless",
                          "dtype=F32 shape=10,0 axes=TD role=key preset=lossless",
                          "dtype=F32 shape=10, axes=TD role=key preset=lossless",
                          "dtype=F32 shape=4294967295,4294967295 axes=TD role=key preset=lossless",
                          "dtype=F32 shape=10,25 axes=TD role=key preset=lossless",
                          "dtype=F32 shape=10,24 axes=TD role=key preset=nothing",
                          "dtype=F32 shape=10,24 axes=TD role=key preset=xkv",
                          "dtype=F32 shape=10,24 axes=TD role=key layer=2 layers=2 preset=lossless",
                          "dtype=F32 shape=10,24 axes=TD role=key preset=lossless pipeline=pack",
                          "dtype=F32 dtype=F32 shape=10,24 axes=TD role=key preset=lossless",
                          "dtype=F32 shape=10,24 axes=TD role=key pipeline=nothing"}) {
    CAPTURE(bad);
    CHECK_THROWS_AS(h5z::encode_chunk(parameters(bad), bytes_of(values)), Error);
  }
  CHECK_THROWS_AS(h5z::encode_chunk(std::vector<unsigned>(5000, 0x20202020), bytes_of(values)), Error);
}

TEST_CASE("hdf5 filter: datasets that are not what the settings say are refused") {
  const std::vector<unsigned> words = parameters("dtype=F16 shape=2,10,24 axes=HTD role=key preset=lossless");
  const h5z::Dataset good{{2, 10, 24}, 2, true, 5}, bits{{2, 10, 24}, 2, true, {}};
  CHECK_NOTHROW(h5z::check_dataset(words, good));
  CHECK_NOTHROW(h5z::check_dataset(words, bits));
  for (const h5z::Dataset& bad : {h5z::Dataset{{2, 24, 10}, 2, true, 5},      // as many values
                                  h5z::Dataset{{10, 24}, 2, true, 5},         // fewer axes
                                  h5z::Dataset{{2, 10, 24}, 4, true, 8},      // F32
                                  h5z::Dataset{{2, 10, 24}, 2, true, 8},      // BF16
                                  h5z::Dataset{{2, 10, 24}, 2, false, 5}}) {  // big-endian
    CAPTURE(bad.chunk);
    CHECK_THROWS_AS(h5z::check_dataset(words, bad), Error);
  }
  const std::string others = " shape=2,10,24 axes=HTD role=key preset=";
  CHECK_NOTHROW(h5z::check_dataset(parameters("dtype=BF16" + others + "kvzip-near"), {{2, 10, 24}, 2, true, 8}));
  CHECK_NOTHROW(h5z::check_dataset(parameters("dtype=F64" + others + "lossless"), {{2, 10, 24}, 8, true, 11}));
  CHECK_NOTHROW(h5z::check_dataset(parameters("dtype=F8_E4M3" + others + "int4"), {{2, 10, 24}, 1, true, 4}));
  CHECK_THROWS_AS(h5z::check_dataset(parameters("dtype=F16" + others + "nothing"), good), Error);
}

TEST_CASE("hdf5 filter: no memory is taken for what so few bytes cannot be") {
  const std::vector<unsigned> words = parameters("dtype=F64 shape=1048576,1024 axes=TD role=key preset=lossless");
  const auto reason = [&](std::size_t size) -> std::string {
    try {
      h5z::chunk_bytes(words, Bytes(size));
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  CHECK(reason(1000).find("for 8589934592") != std::string::npos);
  CHECK(reason(1 + ((1u << 30) - (1u << 16)) / 1024) == "");
}

TEST_CASE("hdf5 filter: damaged chunks are refused") {
  const std::vector<unsigned> words = parameters("dtype=F32 shape=10,24 axes=TD role=key pipeline=quant:bits=4,rans");
  const std::vector<float> values = numbers();
  const Bytes coded = h5z::encode_chunk(words, bytes_of(values));
  std::vector<float> out(values.size());
  for (std::size_t at = 0; at < coded.size(); ++at) {
    Bytes bad = coded;
    bad[at] ^= std::byte{0x20};
    CHECK_THROWS_AS(h5z::decode_chunk(words, bad, std::as_writable_bytes(std::span(out))), Error);
    bad = Bytes(coded.begin(), coded.begin() + static_cast<std::ptrdiff_t>(at));
    CHECK_THROWS_AS(h5z::decode_chunk(words, bad, std::as_writable_bytes(std::span(out))), Error);
  }
}

}  // namespace
}  // namespace kvzip
