// SPDX-License-Identifier: Apache-2.0
// The arithmetic coder and transmitted tables of CacheGen's released serde (arXiv 2310.07240; Witten, Neal and Cleary
// 1987 for the coder): 16-bit cumulative tables, 32-bit low and high, bitwise renormalisation.
#pragma once

#include <span>
#include <vector>

#include "kvzip/dtype.hpp"

namespace kvzip {

inline constexpr unsigned kCachegenMaxBins = 47;

/// cdf[i] = floor((65535 - bins) (symbols below i) / n) + i, i = 0..bins: strictly increasing, every unseen symbol
/// costs 1 / 65536.
std::vector<std::uint16_t> cachegen_cdf(std::span<const std::uint8_t> symbols, unsigned bins);
/// One stream, zero-padded to a byte.
void cachegen_encode(std::span<const std::uint8_t> symbols, std::span<const std::uint16_t> cdf, Bytes& out);
/// Reads zeros past the end, as the published decoder does.
void cachegen_decode(ByteView in, std::span<const std::uint16_t> cdf, std::span<std::uint8_t> symbols);

}  // namespace kvzip
