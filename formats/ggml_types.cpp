// SPDX-License-Identifier: Apache-2.0
// Values are computed as ggml's reference code (dequantize_row_*) does: in F32, a product and then a sum, so that they
// are the same numbers bit for bit.
#include "formats/ggml_types.hpp"

#include <algorithm>
#include <array>
#include <cstring>

namespace kvzip {
namespace {

using Values = std::span<float, kGgmlBlock>;
constexpr std::size_t kHalf = kGgmlBlock / 2;

float half_at(ByteView block, std::size_t at) {
  std::uint16_t bits = 0;
  std::memcpy(&bits, block.data() + at, sizeof bits);
  return f16_to_float(bits);
}

/// The 32 numbers of 4 bits from `at` on: low halves of 16 bytes, then high halves.
std::array<int, kGgmlBlock> nibbles(ByteView block, std::size_t at) {
  std::array<int, kGgmlBlock> out{};
  for (std::size_t i = 0; i < kHalf; ++i) {
    const int both = std::to_integer<int>(block[at + i]);
    out[i] = both & 15;
    out[i + kHalf] = both >> 4;
  }
  return out;
}

/// The same with a fifth bit each, of a 32-bit word at `high`.
std::array<int, kGgmlBlock> five_bits(ByteView block, std::size_t high, std::size_t at) {
  std::array<int, kGgmlBlock> out = nibbles(block, at);
  std::uint32_t word = 0;
  std::memcpy(&word, block.data() + high, sizeof word);
  for (std::size_t i = 0; i < kGgmlBlock; ++i) out[i] |= static_cast<int>(word >> i & 1) << 4;
  return out;
}

void q4_0(ByteView block, Values out) {
  const auto codes = nibbles(block, 2);
  for (std::size_t i = 0; i < kGgmlBlock; ++i) out[i] = static_cast<float>(codes[i] - 8) * half_at(block, 0);
}
void q4_1(ByteView block, Values out) {
  const auto codes = nibbles(block, 4);
  for (std::size_t i = 0; i < kGgmlBlock; ++i) {
    out[i] = static_cast<float>(codes[i]) * half_at(block, 0) + half_at(block, 2);
  }
}
void q5_0(ByteView block, Values out) {
  const auto codes = five_bits(block, 2, 6);
  for (std::size_t i = 0; i < kGgmlBlock; ++i) out[i] = static_cast<float>(codes[i] - 16) * half_at(block, 0);
}
void q5_1(ByteView block, Values out) {
  const auto codes = five_bits(block, 4, 8);
  for (std::size_t i = 0; i < kGgmlBlock; ++i) {
    out[i] = static_cast<float>(codes[i]) * half_at(block, 0) + half_at(block, 2);
  }
}
void q8_0(ByteView block, Values out) {
  for (std::size_t i = 0; i < kGgmlBlock; ++i) {
    out[i] = static_cast<float>(std::to_integer<std::int8_t>(block[2 + i])) * half_at(block, 0);
  }
}
void iq4_nl(ByteView block, Values out) {
  constexpr std::array<float, 16> kLevels{-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
  const auto codes = nibbles(block, 2);
  for (std::size_t i = 0; i < kGgmlBlock; ++i) {
    out[i] = half_at(block, 0) * kLevels[static_cast<std::size_t>(codes[i])];
  }
}

constexpr GgmlType kTypes[] = {
    {0, "f32", DType::f32, 4},         {1, "f16", DType::f16, 2},         {30, "bf16", DType::bf16, 2},
    {2, "q4_0", DType::f32, 18, q4_0}, {3, "q4_1", DType::f32, 20, q4_1}, {6, "q5_0", DType::f32, 22, q5_0},
    {7, "q5_1", DType::f32, 24, q5_1}, {8, "q8_0", DType::f32, 34, q8_0}, {20, "iq4_nl", DType::f32, 18, iq4_nl},
};

}  // namespace

const GgmlType* find_ggml_type(std::int32_t code) {
  const auto* found = std::ranges::find(kTypes, code, &GgmlType::code);
  return found == std::end(kTypes) ? nullptr : found;
}

const GgmlType* find_ggml_type(std::string_view name) {
  const auto* found = std::ranges::find(kTypes, name, &GgmlType::name);
  return found == std::end(kTypes) ? nullptr : found;
}

const GgmlType* plain_ggml_type(DType dtype) {
  const auto* found =
      std::ranges::find_if(kTypes, [&](const GgmlType& type) { return type.decode == nullptr && type.dtype == dtype; });
  return found == std::end(kTypes) ? nullptr : found;
}

}  // namespace kvzip
