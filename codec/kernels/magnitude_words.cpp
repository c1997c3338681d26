// SPDX-License-Identifier: Apache-2.0
#include "codec/kernels/magnitude_words.hpp"

#include <array>

#include "codec/magnitude_classes.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "codec/kernels/magnitude_words.cpp"
#include <hwy/foreach_target.h>  // compiles the file once per instruction set
#include <hwy/highway.h>

#ifndef KVZIP_KERNELS_MAGNITUDES_TABLES
#define KVZIP_KERNELS_MAGNITUDES_TABLES
namespace kvzip::kernels {

/// Numbers of classes, in two tables of bytes. Class 0 has 0 in all of them.
struct ClassTable {
  alignas(16) std::uint8_t low[kMagnitudeClasses], high[kMagnitudeClasses];
};
constexpr ClassTable kBases = [] {
  ClassTable t{};
  for (unsigned c = 0; c < kMagnitudeClasses; ++c) {
    t.low[c] = static_cast<std::uint8_t>(kClassBase[c]);
    t.high[c] = static_cast<std::uint8_t>(kClassBase[c] >> 8);
  }
  return t;
}();
constexpr ClassTable kMasks = [] {
  ClassTable t{};
  for (unsigned c = 0; c < kMagnitudeClasses; ++c) {
    const unsigned mask = (1u << kStoredBits[c]) - 1;
    t.low[c] = static_cast<std::uint8_t>(mask);
    t.high[c] = static_cast<std::uint8_t>(mask >> 8);
  }
  return t;
}();

}  // namespace kvzip::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace kvzip::kernels::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

using Shorts = hn::ScalableTag<std::uint16_t>;
using Ints = hn::Repartition<std::uint32_t, Shorts>;
using Longs = hn::Repartition<std::uint64_t, Shorts>;
using Bytes = hn::Repartition<std::uint8_t, Shorts>;

void ClassesOfOne(const std::int16_t* values, std::uint8_t* classes, std::uint64_t* bits, std::uint64_t* counts) {
  std::uint64_t word = 0, count = 0;
  for (std::size_t i = 0; i < kJoined; ++i) {
    const auto magnitude = static_cast<unsigned>(values[i] < 0 ? -values[i] : values[i]);
    std::uint8_t c = static_cast<std::uint8_t>(magnitude < 8 ? magnitude : 8);
    while (c >= 8 && c + 1u < kMagnitudeClasses && kClassBase[c + 1] <= magnitude) ++c;
    classes[i] = c;
    word |= std::uint64_t{(magnitude - kClassBase[c]) << 1 | (values[i] < 0 ? 1u : 0u)} << count;
    count += kStoredBits[c];
  }
  *bits = word;
  *counts = count;
}

void ValuesOfOne(const std::uint8_t* classes, std::uint64_t word, std::int16_t* values) {
  for (std::size_t i = 0; i < kJoined; ++i) {
    const unsigned c = classes[i], own = static_cast<unsigned>(word) & ((1u << kStoredBits[c]) - 1);
    const int magnitude = static_cast<int>(kClassBase[c] + (own >> 1)), sign = -static_cast<int>(own & 1);
    values[i] = static_cast<std::int16_t>((magnitude ^ sign) - sign);
    word >>= kStoredBits[c];
  }
}

#if HWY_TARGET != HWY_SCALAR
/// Odd lanes of half the width go down to the even ones, shifted left by `bits`.
template <typename D, typename V>
HWY_INLINE HWY_ATTR V join(D d, V x, V bits) {
  constexpr int kHalf = sizeof(hn::TFromD<D>) * 4;
  const auto low = hn::Set(d, (hn::TFromD<D>{1} << kHalf) - 1);
  return hn::Or(hn::And(x, low), hn::Shl(hn::ShiftRight<kHalf>(x), bits));
}
/// The sum of the two halves of each lane.
template <typename D, typename V>
HWY_INLINE HWY_ATTR V add_halves(D d, V x) {
  constexpr int kHalf = sizeof(hn::TFromD<D>) * 4;
  const auto low = hn::Set(d, (hn::TFromD<D>{1} << kHalf) - 1);
  return hn::Add(hn::And(x, low), hn::ShiftRight<kHalf>(x));
}

void ClassesOf(const std::int16_t* values, std::uint8_t* classes, std::uint64_t* bits, std::uint64_t* counts) {
  const Shorts d;
  const hn::RebindToSigned<Shorts> s;
  const hn::Rebind<std::uint8_t, Shorts> bytes;
  const Ints ints;
  const Longs longs;
  const auto v = hn::LoadU(s, values);
  const auto m = hn::Abs(v);
  auto base = m, stored = hn::Min(m, hn::Set(s, 1)), c = hn::Min(m, hn::Set(s, 7));
  for (unsigned k = 8; k < kMagnitudeClasses; ++k) {
    const auto from = hn::Set(s, static_cast<std::int16_t>(kClassBase[k]));
    const auto reached = hn::Not(hn::Lt(m, from));
    base = hn::IfThenElse(reached, from, base);
    stored = hn::IfThenElse(reached, hn::Set(s, static_cast<std::int16_t>(kStoredBits[k])), stored);
    c = hn::Sub(c, hn::VecFromMask(s, reached));
  }
  hn::StoreU(hn::DemoteTo(bytes, c), bytes, classes);
  const auto sign = hn::ShiftRight<15>(hn::BitCast(d, v));
  const auto own = hn::Or(hn::BitCast(d, hn::ShiftLeft<1>(hn::Sub(m, base))), sign);
  const auto count = hn::BitCast(ints, stored);
  const auto two = join(ints, hn::BitCast(ints, own), hn::And(count, hn::Set(ints, 0xffff)));
  const auto count_two = hn::BitCast(longs, add_halves(ints, count));
  const auto four = join(longs, hn::BitCast(longs, two), hn::And(count_two, hn::Set(longs, std::uint64_t{0xffffffff})));
  hn::StoreU(four, longs, bits);
  hn::StoreU(add_halves(longs, count_two), longs, counts);
}

HWY_INLINE HWY_ATTR hn::Vec<Shorts> look_up(const std::uint8_t* table, hn::Vec<Shorts> c) {
  const Bytes bytes;
  return hn::BitCast(Shorts(), hn::TableLookupBytes(hn::LoadDup128(bytes, table), hn::BitCast(bytes, c)));
}
HWY_INLINE HWY_ATTR hn::Vec<Shorts> look_up(const ClassTable& table, hn::Vec<Shorts> c) {
  return hn::Or(look_up(table.low, c), hn::ShiftLeft<8>(look_up(table.high, c)));
}

void ValuesOf(const std::uint8_t* classes, const std::uint64_t* bits, std::int16_t* values) {
  const Shorts d;
  const hn::RebindToSigned<Shorts> s;
  const Ints ints;
  const Longs longs;
  const auto c = hn::PromoteTo(d, hn::LoadU(hn::Rebind<std::uint8_t, Shorts>(), classes));
  const auto count = hn::BitCast(ints, look_up(kStoredBits.data(), c));
  const auto count_two = hn::BitCast(longs, add_halves(ints, count));
  // The other way round: halves that are joined go apart.
  const auto word = hn::LoadU(longs, bits);
  const auto upper = hn::Shr(word, hn::And(count_two, hn::Set(longs, std::uint64_t{0xffffffff})));
  const auto two =
      hn::BitCast(ints, hn::Or(hn::And(word, hn::Set(longs, std::uint64_t{0xffffffff})), hn::ShiftLeft<32>(upper)));
  const auto odd = hn::Shr(two, hn::And(count, hn::Set(ints, 0xffff)));
  const auto four = hn::BitCast(d, hn::Or(hn::And(two, hn::Set(ints, 0xffff)), hn::ShiftLeft<16>(odd)));
  const auto own = hn::And(four, look_up(kMasks, c));
  const auto magnitude = hn::Add(look_up(kBases, c), hn::ShiftRight<1>(own));
  const auto sign = hn::Neg(hn::BitCast(s, hn::And(own, hn::Set(d, std::uint16_t{1}))));
  hn::StoreU(hn::Sub(hn::Xor(hn::BitCast(s, magnitude), sign), sign), s, values);
}
#endif

void MagnitudeClasses(const std::int16_t* values, std::size_t words, std::uint8_t* classes, std::uint64_t* bits,
                      std::uint64_t* counts) {
  std::size_t i = 0;
#if HWY_TARGET != HWY_SCALAR
  const std::size_t lanes = hn::Lanes(Longs());
  for (; i + lanes <= words; i += lanes) {
    ClassesOf(values + i * kJoined, classes + i * kJoined, bits + i, counts + i);
  }
#endif
  for (; i < words; ++i) ClassesOfOne(values + i * kJoined, classes + i * kJoined, bits + i, counts + i);
}

void MagnitudeCounts(const std::uint8_t* classes, std::size_t words, std::uint32_t* counts) {
  std::size_t i = 0;
#if HWY_TARGET != HWY_SCALAR
  const Bytes bytes;
  const Ints ints;
  for (; i + hn::Lanes(ints) <= words; i += hn::Lanes(ints)) {
    const auto c = hn::LoadU(bytes, classes + i * kJoined);
    const auto count = hn::BitCast(ints, hn::TableLookupBytes(hn::LoadDup128(bytes, kStoredBits.data()), c));
    const auto two = hn::Add(count, hn::ShiftRight<16>(count));
    hn::StoreU(hn::And(hn::Add(two, hn::ShiftRight<8>(two)), hn::Set(ints, 0xff)), ints, counts + i);
  }
#endif
  for (; i < words; ++i) {
    counts[i] = 0;
    for (std::size_t k = 0; k < kJoined; ++k) counts[i] += kStoredBits[classes[i * kJoined + k]];
  }
}

void MagnitudeValues(const std::uint8_t* classes, const std::uint64_t* bits, std::size_t words, std::int16_t* values) {
  std::size_t i = 0;
#if HWY_TARGET != HWY_SCALAR
  const std::size_t lanes = hn::Lanes(Longs());
  for (; i + lanes <= words; i += lanes) ValuesOf(classes + i * kJoined, bits + i, values + i * kJoined);
#endif
  for (; i < words; ++i) ValuesOfOne(classes + i * kJoined, bits[i], values + i * kJoined);
}

}  // namespace
}  // namespace kvzip::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace kvzip::kernels {

HWY_EXPORT(MagnitudeClasses);
HWY_EXPORT(MagnitudeCounts);
HWY_EXPORT(MagnitudeValues);

void magnitude_classes(const std::int16_t* values, std::size_t words, std::uint8_t* classes, std::uint64_t* bits,
                       std::uint64_t* counts) {
  HWY_DYNAMIC_DISPATCH(MagnitudeClasses)(values, words, classes, bits, counts);
}
void magnitude_counts(const std::uint8_t* classes, std::size_t words, std::uint32_t* counts) {
  HWY_DYNAMIC_DISPATCH(MagnitudeCounts)(classes, words, counts);
}
void magnitude_values(const std::uint8_t* classes, const std::uint64_t* bits, std::size_t words, std::int16_t* values) {
  HWY_DYNAMIC_DISPATCH(MagnitudeValues)(classes, bits, words, values);
}

}  // namespace kvzip::kernels
#endif
