// SPDX-License-Identifier: Apache-2.0
// Which frames a read takes, and how they lie in either order.
#include "src/bench/bench_io.hpp"

#include <doctest/doctest.h>

#include "kvzip/error.hpp"

using namespace kvzip;
using namespace kvzip::tool;

namespace {

/// Two layers' keys of 10 tokens in frames of 4, tensors of no role between them; `restart` as in KvzGroup.
KvzSummary summary(std::uint64_t restart) {
  KvzGroup keys, other;
  keys.role = Role::key;
  keys.chunk_rows = 4;
  keys.rows = 10;
  keys.frames = 3;
  keys.restart = restart;
  other.frames = 1;
  KvzGroup next = keys;
  keys.layer = 0;
  next.layer = 1;
  KvzSummary out;
  out.groups = {keys, other, next};
  return out;
}

/// Frames of 100 bytes more each: 100, 200 ... 700, one after the other from 32 on.
std::vector<Extent> records() {
  std::vector<Extent> out;
  std::uint64_t at = 32;
  for (std::uint64_t i = 1; i <= 7; ++i) {
    out.push_back({at, 100 * i});
    at += 100 * i;
  }
  return out;
}

}  // namespace

TEST_CASE("bench io: extents that touch are one") {
  CHECK(joined({}).empty());
  CHECK(joined({{30, 5}, {10, 10}, {20, 10}, {36, 1}}) == std::vector<Extent>{{10, 25}, {36, 1}});
}

TEST_CASE("bench io: what a read takes, in the order of layers and of tokens") {
  const std::vector<StoredFrame> frames = stored_frames(records(), summary(0));
  REQUIRE(frames.size() == 6);
  // All: layer 0 is 100 + 200 + 300, then 400 of the other tensor, layer 1 is 500 + 600 + 700.
  CHECK(extents_for(frames, {0, 10}) == std::vector<Extent>{{32, 600}, {1032, 1800}});
  // Tokens 0 to 4 are in the first two frames of each layer.
  CHECK(extents_for(frames, {0, 5}) == std::vector<Extent>{{32, 300}, {1032, 1100}});
  CHECK(extents_for(frames, {9, 10}) == std::vector<Extent>{{332, 300}, {2132, 700}});
  CHECK(extents_for(frames, {10, 12}).empty());
  const std::vector<StoredFrame> by_token = packed(sorted(frames, FrameOrder::token));
  CHECK(extents_for(by_token, {0, 10}) == std::vector<Extent>{{0, 2400}});
  CHECK(extents_for(by_token, {0, 5}) == std::vector<Extent>{{0, 1400}});  // 100 + 500 + 200 + 600
  CHECK(extents_for(by_token, {9, 10}) == std::vector<Extent>{{1400, 1000}});
  // A layer: one stretch, or one for each chunk of tokens.
  CHECK(extents_for(frames, {0, 10}, 1) == std::vector<Extent>{{1032, 1800}});
  CHECK(extents_for(by_token, {0, 10}, 1) == std::vector<Extent>{{100, 500}, {800, 600}, {1700, 700}});
  CHECK(extents_for(by_token, {0, 10}, 2).empty());
  // And back.
  const std::vector<StoredFrame> by_layer = packed(sorted(by_token, FrameOrder::layer));
  CHECK(extents_for(by_layer, {0, 10}, 0) == std::vector<Extent>{{0, 600}});
  CHECK(extents_for(by_layer, {0, 10}, 1) == std::vector<Extent>{{600, 1800}});
}

TEST_CASE("bench io: chained frames are read from their restart point on") {
  const std::vector<StoredFrame> frames = stored_frames(records(), summary(2));
  CHECK(extents_for(frames, {4, 5}) == std::vector<Extent>{{32, 300}, {1032, 1100}});
  CHECK(extents_for(frames, {8, 9}) == std::vector<Extent>{{332, 300}, {2132, 700}});
  CHECK(extents_for(frames, {0, 4}) == std::vector<Extent>{{32, 100}, {1032, 500}});
}

TEST_CASE("bench io: another number of frames than groups say is refused") {
  std::vector<Extent> few = records(), many = records();
  few.pop_back();
  many.push_back({5000, 1});
  CHECK_THROWS_AS(stored_frames(few, summary(0)), Error);
  CHECK_THROWS_AS(stored_frames(many, summary(0)), Error);
}
