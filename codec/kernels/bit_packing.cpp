// SPDX-License-Identifier: Apache-2.0
// Eight symbols fill `width` whole bytes. They are merged and spread inside one word: neighbours to pairs, pairs to
// quadruples, quadruples to eight.
#include "codec/kernels/bit_packing.hpp"

#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "codec/kernels/bit_packing.cpp"
#include <hwy/foreach_target.h>  // compiles the file once per instruction set
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace kvzip::kernels::HWY_NAMESPACE {

template <unsigned Width>
struct Masks {
  static constexpr std::uint64_t kSymbols = ((std::uint64_t{1} << Width) - 1) * 0x0001000100010001;  // every other one
  static constexpr std::uint64_t kPairs = ((std::uint64_t{1} << 2 * Width) - 1) * 0x0000000100000001;
  static constexpr std::uint64_t kQuad = (std::uint64_t{1} << 4 * Width) - 1;
};

/// Eight symbols, one per byte, to 8 * Width bits.
template <unsigned Width>
inline std::uint64_t merge(std::uint64_t x) {
  using M = Masks<Width>;
  x = (x & M::kSymbols) | (x >> (8 - Width) & M::kSymbols << Width);
  x = (x & M::kPairs) | (x >> (16 - 2 * Width) & M::kPairs << 2 * Width);
  return (x & M::kQuad) | (x >> (32 - 4 * Width) & M::kQuad << 4 * Width);
}

template <unsigned Width>
inline std::uint64_t spread(std::uint64_t x) {
  using M = Masks<Width>;
  x = (x & M::kQuad) | (x << (32 - 4 * Width) & M::kQuad << 32);
  x = (x & M::kPairs) | (x << (16 - 2 * Width) & M::kPairs << 16);
  return (x & M::kSymbols) | (x << (8 - Width) & M::kSymbols << 8);
}

/// The widths that divide 8: a byte of output from one word of symbols, a loop without carried state.
template <unsigned Width, typename Word>
inline std::size_t pack_bytes(const std::uint8_t* HWY_RESTRICT symbols, std::size_t n, std::uint8_t* HWY_RESTRICT out) {
  const std::size_t bytes = n / sizeof(Word);
  for (std::size_t i = 0; i < bytes; ++i) {
    Word x;
    std::memcpy(&x, symbols + i * sizeof x, sizeof x);
    x = static_cast<Word>(x | x >> (8 - Width));
    if constexpr (Width <= 2) x = static_cast<Word>(x | x >> (16 - 2 * Width));
    if constexpr (Width == 1) x = static_cast<Word>(x | x >> (32 - 4 * Width));
    out[i] = static_cast<std::uint8_t>(x);
  }
  return bytes * sizeof(Word);
}

template <unsigned Width, typename Word>
inline std::size_t unpack_bytes(const std::uint8_t* HWY_RESTRICT in, std::size_t n,
                                std::uint8_t* HWY_RESTRICT symbols) {
  const std::size_t bytes = n / sizeof(Word);
  for (std::size_t i = 0; i < bytes; ++i) {
    const Word x = static_cast<Word>(spread<Width>(in[i]));
    std::memcpy(symbols + i * sizeof x, &x, sizeof x);
  }
  return bytes * sizeof(Word);
}

template <unsigned Width>
void pack(const std::uint8_t* HWY_RESTRICT symbols, std::size_t n, std::uint8_t* HWY_RESTRICT out) {
  std::size_t i = 0;
  if constexpr (Width == 1) i = pack_bytes<1, std::uint64_t>(symbols, n, out);
  if constexpr (Width == 2) i = pack_bytes<2, std::uint32_t>(symbols, n, out) / 8 * 8;
  if constexpr (Width == 4) i = pack_bytes<4, std::uint16_t>(symbols, n, out) / 8 * 8;
  // A word's zeros above its bits are overwritten by the next word.
  const std::size_t bytes = (n * Width + 7) / 8;
  std::uint64_t x;
  for (; i / 8 * Width + 8 <= bytes; i += 8) {
    std::memcpy(&x, symbols + i, 8);
    x = merge<Width>(x);
    std::memcpy(out + i / 8 * Width, &x, 8);
  }
  for (; i < n; i += 8) {
    const std::size_t left = n - i < 8 ? n - i : 8;
    x = 0;
    std::memcpy(&x, symbols + i, left);
    x = merge<Width>(x);
    std::memcpy(out + i / 8 * Width, &x, (left * Width + 7) / 8);
  }
}

template <unsigned Width>
void unpack(const std::uint8_t* HWY_RESTRICT in, std::size_t n, std::uint8_t* HWY_RESTRICT symbols) {
  std::size_t i = 0;
  if constexpr (Width == 1) i = unpack_bytes<1, std::uint64_t>(in, n, symbols);
  if constexpr (Width == 2) i = unpack_bytes<2, std::uint32_t>(in, n, symbols) / 8 * 8;
  if constexpr (Width == 4) i = unpack_bytes<4, std::uint16_t>(in, n, symbols) / 8 * 8;
  const std::size_t bytes = (n * Width + 7) / 8;
  std::uint64_t x;
  for (; i / 8 * Width + 8 <= bytes; i += 8) {
    std::memcpy(&x, in + i / 8 * Width, 8);
    x = spread<Width>(x);
    std::memcpy(symbols + i, &x, 8);
  }
  for (; i < n; i += 8) {
    const std::size_t left = n - i < 8 ? n - i : 8;
    x = 0;
    std::memcpy(&x, in + i / 8 * Width, (left * Width + 7) / 8);
    x = spread<Width>(x);
    std::memcpy(symbols + i, &x, left);
  }
}

void pack_bits(const std::uint8_t* symbols, std::size_t n, unsigned width, std::uint8_t* out) {
  if (n == 0) return;  // there may be no array at all
  switch (width) {
    case 1:
      return pack<1>(symbols, n, out);
    case 2:
      return pack<2>(symbols, n, out);
    case 3:
      return pack<3>(symbols, n, out);
    case 4:
      return pack<4>(symbols, n, out);
    case 5:
      return pack<5>(symbols, n, out);
    case 6:
      return pack<6>(symbols, n, out);
    case 7:
      return pack<7>(symbols, n, out);
    default:
      std::memcpy(out, symbols, n);
  }
}

void unpack_bits(const std::uint8_t* in, std::size_t n, unsigned width, std::uint8_t* symbols) {
  if (n == 0) return;
  switch (width) {
    case 1:
      return unpack<1>(in, n, symbols);
    case 2:
      return unpack<2>(in, n, symbols);
    case 3:
      return unpack<3>(in, n, symbols);
    case 4:
      return unpack<4>(in, n, symbols);
    case 5:
      return unpack<5>(in, n, symbols);
    case 6:
      return unpack<6>(in, n, symbols);
    case 7:
      return unpack<7>(in, n, symbols);
    default:
      std::memcpy(symbols, in, n);
  }
}

std::uint8_t largest(const std::uint8_t* symbols, std::size_t n) {
  std::uint8_t most = 0;
  for (std::size_t i = 0; i < n; ++i) most = symbols[i] > most ? symbols[i] : most;
  return most;
}

}  // namespace kvzip::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace kvzip::kernels {

HWY_EXPORT(pack_bits);
HWY_EXPORT(unpack_bits);
HWY_EXPORT(largest);

void pack_bits(const std::uint8_t* symbols, std::size_t n, unsigned width, std::uint8_t* out) {
  HWY_DYNAMIC_DISPATCH(pack_bits)(symbols, n, width, out);
}
void unpack_bits(const std::uint8_t* in, std::size_t n, unsigned width, std::uint8_t* symbols) {
  HWY_DYNAMIC_DISPATCH(unpack_bits)(in, n, width, symbols);
}
std::uint8_t largest(const std::uint8_t* symbols, std::size_t n) {
  return HWY_DYNAMIC_DISPATCH(largest)(symbols, n);
}

}  // namespace kvzip::kernels
#endif
