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

void combine(const float* a, std::size_t rank, const float* b, std::size_t stride, std::size_t n, float* y) {
  if (rank == 0) return std::fill(y, y + n, 0.0f);
  for (std::size_t i = 0; i < n; ++i) y[i] = a[0] * b[i];
  for (std::size_t k = 1; k < rank; ++k) {
    const float* row = b + k * stride;
    for (std::size_t i = 0; i < n; ++i) y[i] += a[k] * row[i];
  }
}

double dot(const float* a, const float* b, std::size_t n) {
  constexpr std::size_t kLanes = 8;
  double lane[kLanes] = {};
  std::size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (std::size_t j = 0; j < kLanes; ++j) lane[j] += double{a[i + j]} * b[i + j];
  }
  for (; i < n; ++i) lane[0] += double{a[i]} * b[i];
  return ((lane[0] + lane[1]) + (lane[2] + lane[3])) + ((lane[4] + lane[5]) + (lane[6] + lane[7]));
}

void add_multiple(const float* x, std::size_t n, float factor, float* y) {
  for (std::size_t i = 0; i < n; ++i) y[i] += factor * x[i];
}

void block_times(const Block& e, const float* p, std::size_t rank, float* q) {
  constexpr std::size_t kLanes = 16;
  for (std::size_t t = 0; t < e.rows; ++t) {
    const float* row = e.data + t * e.stride;
    for (std::size_t k = 0; k < rank; ++k) {
      const float* vector = p + k * e.cols;
      float lane[kLanes] = {};
      std::size_t c = 0;
      for (; c + kLanes <= e.cols; c += kLanes) {
        for (std::size_t j = 0; j < kLanes; ++j) lane[j] += row[c + j] * vector[c + j];
      }
      for (; c < e.cols; ++c) lane[0] += row[c] * vector[c];
      for (std::size_t half = kLanes / 2; half > 0; half /= 2) {
        for (std::size_t j = 0; j < half; ++j) lane[j] += lane[j + half];
      }
      q[k * e.rows + t] = lane[0];
    }
  }
}

void transposed_block_times(const Block& e, const float* q, std::size_t rank, float* p) {
  std::fill(p, p + rank * e.cols, 0.0f);
  constexpr std::size_t kRows = 4;  // one load and store of the sums serves four rows
  std::size_t t = 0;
  for (; t + kRows <= e.rows; t += kRows) {
    const float* __restrict x0 = e.data + t * e.stride;
    const float* __restrict x1 = x0 + e.stride;
    const float* __restrict x2 = x1 + e.stride;
    const float* __restrict x3 = x2 + e.stride;
    for (std::size_t k = 0; k < rank; ++k) {
      const float* a = q + k * e.rows + t;
      const float a0 = a[0], a1 = a[1], a2 = a[2], a3 = a[3];
      float* __restrict sum = p + k * e.cols;
      for (std::size_t c = 0; c < e.cols; ++c) sum[c] += ((a0 * x0[c] + a1 * x1[c]) + a2 * x2[c]) + a3 * x3[c];
    }
  }
  for (; t < e.rows; ++t) {
    for (std::size_t k = 0; k < rank; ++k)
      add_multiple(e.data + t * e.stride, e.cols, q[k * e.rows + t], p + k * e.cols);
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
