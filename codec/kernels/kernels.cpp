// SPDX-License-Identifier: Apache-2.0
#include "codec/kernels/kernels.hpp"

#include <algorithm>
#include <bit>
#include <cstring>

namespace kvzip::kernels {
namespace {

/// The instructions' own minimum and maximum: no branch, no NaN handling.
inline float smaller(float a, float b) {
  return a < b ? a : b;
}
inline float larger(float a, float b) {
  return a > b ? a : b;
}

/// Nearest integer, ties to even, for 0 <= x < 2^22: two additions that every target rounds alike.
inline float round_even(float x) {
  return (x + 12582912.0f) - 12582912.0f;
}

template <unsigned Width>
void pack(const std::uint8_t* symbols, std::size_t n, std::uint8_t* out) {
  constexpr std::size_t kPer = 8 / Width;
  for (std::size_t i = 0; i < n / kPer; ++i) {
    unsigned byte = 0;
    for (std::size_t j = 0; j < kPer; ++j) byte |= static_cast<unsigned>(symbols[i * kPer + j]) << (j * Width);
    out[i] = static_cast<std::uint8_t>(byte);
  }
}

template <unsigned Width>
void unpack(const std::uint8_t* in, std::size_t n, std::uint8_t* symbols) {
  constexpr std::size_t kPer = 8 / Width;
  for (std::size_t i = 0; i < n / kPer; ++i) {
    for (std::size_t j = 0; j < kPer; ++j) {
      symbols[i * kPer + j] = static_cast<std::uint8_t>(in[i] >> (j * Width) & ((1u << Width) - 1));
    }
  }
}

}  // namespace

bool all_finite(const float* x, std::size_t n) {
  std::int32_t largest = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const std::int32_t magnitude = std::bit_cast<std::int32_t>(x[i]) & 0x7fffffff;
    largest = magnitude > largest ? magnitude : largest;
  }
  return largest < 0x7f800000;
}

void min_max(const float* x, std::size_t n, float* low, float* high) {
  constexpr std::size_t kLanes = 16;
  std::size_t i = 0;
  if (n >= kLanes) {
    float lo[kLanes], hi[kLanes];
    for (std::size_t j = 0; j < kLanes; ++j) lo[j] = hi[j] = x[j];
    for (i = kLanes; i + kLanes <= n; i += kLanes) {
      for (std::size_t j = 0; j < kLanes; ++j) {
        lo[j] = smaller(x[i + j], lo[j]);
        hi[j] = larger(x[i + j], hi[j]);
      }
    }
    for (std::size_t j = 0; j < kLanes; ++j) {
      *low = smaller(lo[j], *low);
      *high = larger(hi[j], *high);
    }
  }
  for (; i < n; ++i) {
    *low = smaller(x[i], *low);
    *high = larger(x[i], *high);
  }
}

void min_max_columns(const float* x, std::size_t n, float* low, float* high) {
  for (std::size_t i = 0; i < n; ++i) {
    low[i] = smaller(x[i], low[i]);
    high[i] = larger(x[i], high[i]);
  }
}

void quantise(const float* x, std::size_t n, const QuantColumns& q, std::uint8_t* codes, std::uint8_t* high_codes,
              float* approximation) {
  for (std::size_t i = 0; i < n; ++i) {
    const float v = (x[i] - q.offset[i]) / q.divisor[i] * q.factor[i] + q.zero;
    const float code = round_even(smaller(larger(v, 0.0f), q.top));
    approximation[i] = code;
    codes[i] = static_cast<std::uint8_t>(static_cast<std::int32_t>(code));
  }
  if (high_codes != nullptr) {
    for (std::size_t i = 0; i < n; ++i) {
      high_codes[i] = static_cast<std::uint8_t>(static_cast<std::int32_t>(approximation[i]) >> 8);
    }
  }
  if (q.unit == 1) {
    for (std::size_t i = 0; i < n; ++i) approximation[i] = (approximation[i] - q.zero) * q.scale[i] + q.low[i];
  } else {
    for (std::size_t i = 0; i < n; ++i) approximation[i] = (approximation[i] - q.zero) / q.unit * q.scale[i] + q.low[i];
  }
}

void dequantise_add(const std::uint8_t* codes, const std::uint8_t* high_codes, std::size_t n, const QuantColumns& q,
                    float* x) {
  if (high_codes != nullptr) {
    for (std::size_t i = 0; i < n; ++i) {
      const auto code = static_cast<float>(codes[i] + 256 * high_codes[i]);
      x[i] += (code - q.zero) / q.unit * q.scale[i] + q.low[i];
    }
  } else if (q.unit == 1) {
    for (std::size_t i = 0; i < n; ++i) x[i] += (static_cast<float>(codes[i]) - q.zero) * q.scale[i] + q.low[i];
  } else {
    for (std::size_t i = 0; i < n; ++i) {
      x[i] += (static_cast<float>(codes[i]) - q.zero) / q.unit * q.scale[i] + q.low[i];
    }
  }
}

void pack_bits(const std::uint8_t* symbols, std::size_t n, unsigned width, std::uint8_t* out) {
  switch (width) {
    case 1:
      return pack<1>(symbols, n, out);
    case 2:
      return pack<2>(symbols, n, out);
    case 4:
      return pack<4>(symbols, n, out);
    default:
      if (n != 0) std::memcpy(out, symbols, n);
  }
}

void unpack_bits(const std::uint8_t* in, std::size_t n, unsigned width, std::uint8_t* symbols) {
  switch (width) {
    case 1:
      return unpack<1>(in, n, symbols);
    case 2:
      return unpack<2>(in, n, symbols);
    case 4:
      return unpack<4>(in, n, symbols);
    default:
      if (n != 0) std::memcpy(symbols, in, n);
  }
}

}  // namespace kvzip::kernels
