// SPDX-License-Identifier: Apache-2.0
// Tiles over spans, as a program outside uses them.
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <future>
#include <new>
#include <thread>
#include <vector>

#include "codec/buffer.hpp"
#include "codec/rotary.hpp"
#include "kvzip/error.hpp"
#include "kvzip/memory.hpp"
#include "kvzip/tile_codec.hpp"
#include "tests/contract/allocation.hpp"

namespace kvzip {
namespace {

constexpr std::size_t kTokens = 40, kHeads = 2, kDim = 8, kChannels = kHeads * kDim;

TileFormat format(Role role = Role::key) {
  TileFormat f;
  f.role = role;
  f.dtype = DType::f32;
  f.heads = kHeads;
  f.head_dim = kDim;
  return f;
}

std::vector<float> waves() {
  std::vector<float> values(kTokens * kChannels);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = std::sin(0.37f * static_cast<float>(i));
  return values;
}

std::vector<float> decoded(const TileCodec& codec, ByteView coded, std::uint64_t first_token = 0) {
  std::vector<float> values(kTokens * kChannels);
  codec.decode(coded, std::as_writable_bytes(std::span(values)), first_token);
  return values;
}

template <typename F>
ErrorCode code_of(F&& run) {
  try {
    run();
  } catch (const Error& error) {
    return error.code();
  }
  FAIL("no error");
  return ErrorCode::io;
}

TEST_CASE("a tile codec: a quantiser keeps within half a step of each token's range") {
  const std::vector<float> values = waves();
  for (const unsigned bits : {2u, 4u, 8u}) {
    const TileCodec codec("quant:bits=" + std::to_string(bits) + ":axis=token:group=0,rans", format());
    const std::vector<float> back = decoded(codec, codec.encode(std::as_bytes(std::span(values))));
    for (std::size_t t = 0; t < kTokens; ++t) {
      const std::span row = std::span(values).subspan(t * kChannels, kChannels);
      const auto [low, high] = std::minmax_element(row.begin(), row.end());
      const float step = (*high - *low) / static_cast<float>((1u << bits) - 1);
      for (std::size_t c = 0; c < kChannels; ++c) {
        // 2^-9 of the largest value: scales are stored as half-precision floats.
        CHECK(std::fabs(back[t * kChannels + c] - row[c]) <= step / 2 + 1.0f / 256);
      }
    }
  }
}

TEST_CASE("a tile codec: the settled text makes the same codec again") {
  const std::vector<float> values = waves();
  TileFormat keys = format();
  keys.rope.state = Rope::State::post;
  keys.rope.theta = 10000;
  const TileCodec encoder("rope,quant:bits=8,pack", keys);
  CHECK(encoder.pipeline().find("theta=10000") != std::string::npos);
  keys.rope = {};  // the text alone says how the keys are rotated
  const TileCodec decoder(encoder.pipeline(), keys);
  const Bytes coded = encoder.encode(std::as_bytes(std::span(values)), 100);
  CHECK(decoded(decoder, coded, 100) == decoded(encoder, coded, 100));
  CHECK(decoded(decoder, coded, 0) != decoded(encoder, coded, 100));
}

TEST_CASE("a tile codec: the newest tokens are those of the sequence, or of the tile") {
  std::vector<float> values = waves();
  const auto exact_rows = [&](std::uint64_t total) {
    TileFormat f = format(Role::value);
    f.total_tokens = total;
    const TileCodec codec("window:recent=10,quant:bits=2,pack", f);
    const std::vector<float> back = decoded(codec, codec.encode(std::as_bytes(std::span(values))));
    std::size_t rows = 0;
    for (std::size_t t = 0; t < kTokens; ++t) {
      rows += std::equal(&back[t * kChannels], &back[t * kChannels] + kChannels, &values[t * kChannels]);
    }
    return rows;
  };
  CHECK(exact_rows(0) == 10);
  CHECK(exact_rows(kTokens) == 10);
  CHECK(exact_rows(kTokens + 4) == 6);
  CHECK(exact_rows(kTokens + 10) == 0);
}

TEST_CASE("a tile codec: exact bytes of any type, and no more than one byte of overhead") {
  std::uint32_t state = 1;
  Bytes noise(kTokens * kChannels);
  for (std::byte& b : noise) b = static_cast<std::byte>((state = state * 1664525u + 1013904223u) >> 24);
  TileFormat f = format();
  f.dtype = DType::u8;
  const TileCodec codec("planes,rans", f);
  const Bytes coded = codec.encode(noise);
  CHECK(coded.size() <= noise.size() + 1);
  Bytes back(noise.size());
  codec.decode(coded, back);
  CHECK(back == noise);
  CHECK(code_of([&] { TileCodec("quant,rans", f); }) == ErrorCode::invalid_argument);
}

TEST_CASE("a tile codec: damaged bytes decode or fail, whatever they are") {
  const std::vector<float> values = waves();
  const KeepMemory keep;
  const TileCodec codec("outliers:share=0.02,quant:bits=4:axis=channel,lowrank:rank=2,rans", format());
  const Bytes coded = codec.encode(std::as_bytes(std::span(values)));
  const auto survives = [&](const Bytes& bytes) {
    try {
      for (const float v : decoded(codec, bytes)) CHECK(std::isfinite(v));
    } catch (const Error& error) {
      CHECK((error.code() == ErrorCode::corrupt || error.code() == ErrorCode::truncated));
    }
  };
  for (std::size_t n = 0; n < coded.size(); ++n) {
    CHECK_THROWS_AS(decoded(codec, ByteView(coded).first(n)), Error);
    Bytes flipped = coded;
    flipped[n] ^= std::byte{1} << (n % 8);
    survives(flipped);
  }
}

TEST_CASE("threads keep memory only while somebody asks for it") {
  const TileCodec codec("quant:bits=4,pack", format());
  constexpr std::size_t kTile = std::size_t{4096} * kChannels * sizeof(float);
  const Bytes elements(kTile);
  const auto kept_after_a_tile = [&] {
    const std::size_t before = test::allocated_now();
    codec.encode(elements);
    return test::allocated_now() - before;
  };
  kept_after_a_tile();  // what the first use of a thread sets up
  CHECK(kept_after_a_tile() == 0);
  const std::size_t before = test::allocated_now();
  if (before == 0) return;  // a sanitiser is at work: nothing is counted, and nothing kept
  std::size_t kept = 0;
  {
    const KeepMemory outer;
    {
      const KeepMemory inner;
      CHECK(kept_after_a_tile() >= kTile);
      CHECK(kept_after_a_tile() == 0);  // the second tile uses what the first one left
    }
    kept = test::allocated_now();
    CHECK(kept >= before + kTile);
    std::thread([&] { codec.encode(elements); }).join();  // a thread that ends takes its own with it
    CHECK(test::allocated_now() < kept + kTile);
  }
  CHECK(test::allocated_now() < before + kTile);
}

TEST_CASE(
    "a thread's first memory of those it keeps, while there is none: that of others goes back, and nothing waits") {
  if (test::allocated_now() == 0) return;  // a sanitiser is at work: nothing is kept, and nothing fails
  constexpr std::size_t kBytes = std::size_t{1} << 20;
  const KeepMemory keep;
  give_memory(take_memory(kBytes), kBytes);
  const std::size_t before = test::allocated_now();
  static std::atomic<int> asked = 0, refused = 0;
  const std::new_handler handler = std::set_new_handler([] {
    ++asked;
    if (!release_kept_memory()) throw std::bad_alloc();
  });
  std::promise<void> ended;
  std::thread thread([&] {
    test::fail_allocations(true);
    try {
      take_memory(kBytes);
    } catch (const std::bad_alloc&) {
      ++refused;
    }
    test::fail_allocations(false);
    ended.set_value();
  });
  const bool waits = ended.get_future().wait_for(std::chrono::minutes(1)) != std::future_status::ready;
  test::fail_allocations(false);
  if (waits) std::abort();  // for ever, with the lock that other tests need
  thread.join();
  std::set_new_handler(handler);
  CHECK(refused == 1);
  CHECK(asked == 2);
  CHECK(test::allocated_now() + kBytes / 2 < before);  // promises and the like take some
}

TEST_CASE("a thread that ends lets go of the sines that it kept") {
  constexpr std::size_t kRows = 256, kDim = 64;
  Rope rope;
  rope.theta = 10000;
  rope.dims = kDim;
  const Rotary rotary(rope);
  const KeepMemory keep;
  std::vector<float> turned(kRows * kDim, 1.0f), by_row = turned;
  const std::size_t before = test::allocated_now();
  std::thread([&] { rotary.turn(5, 1, kRows, 1, kDim, turned.data()); }).join();
  CHECK(test::allocated_now() < before + kRows * kDim * sizeof(float));
  // They are those of rows that are turned one by one.
  for (std::size_t t = 0; t < kRows; ++t) rotary.turn(5 + t, 1, 1, 1, kDim, by_row.data() + t * kDim);
  CHECK(turned == by_row);
  // Of what was kept, nothing serves other rows.
  std::vector<float> later(kRows * kDim, 1.0f);
  rotary.turn(5, 1, kRows, 1, kDim, later.data());
  CHECK(later == by_row);
  std::fill(later.begin(), later.end(), 1.0f);
  rotary.turn(6, 1, kRows - 1, 1, kDim, later.data());
  CHECK(std::equal(by_row.begin() + kDim, by_row.end(), later.begin()));
}

TEST_CASE("a tile codec: what does not fit is refused") {
  const TileCodec codec("quant,pack", format());
  const Bytes bytes(kChannels * sizeof(float) + 1);
  CHECK(code_of([&] { codec.encode(bytes); }) == ErrorCode::invalid_argument);
  CHECK(code_of([&] { codec.encode({}); }) == ErrorCode::invalid_argument);
  TileFormat f = format();
  f.heads = f.head_dim = 1u << 16;
  CHECK(code_of([&] { TileCodec("quant,pack", f); }) == ErrorCode::invalid_argument);
  f = format(Role::pair);
  CHECK(code_of([&] { TileCodec("quant,pack", f); }) == ErrorCode::invalid_argument);
  f = format();
  f.dtype = DType::f4;
  CHECK(code_of([&] { TileCodec("planes,pack", f); }) == ErrorCode::invalid_argument);
  CHECK(code_of([&] { TileCodec("rope,quant,pack", format()); }) == ErrorCode::invalid_argument);
}

}  // namespace
}  // namespace kvzip
