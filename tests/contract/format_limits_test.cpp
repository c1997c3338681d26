// SPDX-License-Identifier: Apache-2.0
// The limits that are part of the format have the numbers of man/kvz.5, which other readers go by.
#include <doctest/doctest.h>

#include <cstdint>

#include "codec/limits.hpp"

namespace kvzip::limits {
namespace {

constexpr std::uint64_t power(int exponent) {
  return std::uint64_t{1} << exponent;
}

static_assert(kStages == 15 && kPipelineText == 4096);
static_assert(kFrameValues == power(30) && kStreams == 128 && kFrames == power(28));
static_assert(kRank == 32 && kMembers == 4096);
static_assert(kTableName == 64 && kTableBytes == power(26) && kTablesBytes == power(30) && kTables == power(16));
static_assert(kDescription == power(28) && kDescriptionRatio == 1024);
static_assert(kFreeDescription == power(24) && kFreeTables == power(20) && kDescriptionPerByte == 128);
static_assert(kResults == power(16) && kCollectionMembers == 4096 && kPaxBytes == power(16));
static_assert(kJsonDepth == 16 && kJsonItems == power(22));
static_assert(kFreeValues == power(16) && kValuesPerByte == power(10));
static_assert(kFreeWork == 0x1p30 && kWorkPerByte == 65536 && kFreeBytes == power(28) && kBytesPerByte == 4096);

TEST_CASE("limits of the format: what a file of N bytes may ask for") {
  CHECK(may_unfold(power(24), power(14), kFreeDescription));
  CHECK_FALSE(may_unfold(power(24), power(14) - 1, kFreeDescription));
  CHECK(may_unfold(power(25), power(17), kFreeDescription));
  CHECK_FALSE(may_unfold(power(25), power(17) - 1, kFreeDescription));
  CHECK(earned(0x1p30 + 65536.0 * 100, 0x1p28 + 4096.0 * 100, 100));
  CHECK_FALSE(earned(0x1p30 + 65536.0 * 100 + 1, 0, 100));
  CHECK_FALSE(earned(0, 0x1p28 + 4096.0 * 100 + 1, 100));
  CHECK(least_payload(65536 + 1024 * 7) == 8);
  CHECK(least_payload(65536 + 1024 * 7 + 1023) == 8);
  CHECK(least_payload(65536 + 1024 * 8) == 9);
}

}  // namespace
}  // namespace kvzip::limits
