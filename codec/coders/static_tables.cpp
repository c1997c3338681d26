// SPDX-License-Identifier: Apache-2.0
// A table holds one code per symbol: 0 = absent, else 1 + 4 log + mantissa of the symbol's share scaled to 2^14, that
// is its leading bit's place and the two bits below. The codes go through the adaptive coder, one table per column, so
// that a symbol's code is learned from the tables before. Frequencies of 2^15 in all, each at least 1, are rebuilt from
// the codes on both sides: the coder uses what is stored.
#include "codec/coders/static_tables.hpp"

#include <algorithm>
#include <bit>

#include "codec/coders/adaptive.hpp"
#include "codec/coders/range_coder.hpp"
#include "codec/fail.hpp"
#include "codec/limits.hpp"

namespace kvzip {
namespace {

/// The code of a share of 2^14: at most 1 + 4 * 14 + 3 = 60.
std::uint8_t code_of(std::uint32_t frequency) {
  if (frequency == 0) return 0;
  const auto log = static_cast<unsigned>(std::bit_width(frequency)) - 1;
  const std::uint32_t mantissa = log >= 2 ? (frequency >> (log - 2)) & 3 : (frequency << (2 - log)) & 3;
  return static_cast<std::uint8_t>(4 * std::min(log, 14u) + mantissa + 1);
}
std::uint32_t weight_of(std::uint8_t code) {
  if (code == 0) return 0;
  const unsigned log = static_cast<unsigned>(code - 1) / 4, mantissa = static_cast<unsigned>(code - 1) & 3;
  return ((4u + mantissa) << log >> 2) | (log < 2 ? 1u << log : 0u);
}

/// Cumulative frequencies of kFrequencyTotal from the stored codes: every symbol with a code gets at least 1.
std::vector<std::uint32_t> cumulative(std::span<const std::uint8_t> codes) {
  std::uint64_t sum = 0, present = 0;
  for (const std::uint8_t c : codes) {
    sum += weight_of(c);
    present += c != 0;
  }
  std::vector<std::uint32_t> bounds(codes.size() + 1);
  const std::uint64_t spread = kFrequencyTotal - present;
  std::uint64_t below = 0, seen = 0;
  for (std::size_t i = 0; i < codes.size(); ++i) {
    bounds[i] = static_cast<std::uint32_t>(sum == 0 ? 0 : below * spread / sum + seen);
    below += weight_of(codes[i]);
    seen += codes[i] != 0;
  }
  bounds[codes.size()] = sum == 0 ? 0 : kFrequencyTotal;
  return bounds;
}

std::uint32_t table_columns(const Stream& s, TablePer per) {
  if (per == TablePer::channel) return 1;
  if (per == TablePer::head && s.head_dim != 0) return s.head_dim;
  return std::max(1u, s.cols);
}

/// The codes of all tables as a matrix: one table per column.
Stream code_matrix(const Stream& s, TablePer per) {
  const std::uint32_t width = table_columns(s, per);
  return symbol_stream(StreamLabel::codes, static_cast<std::uint32_t>(s.alphabet), (s.cols + width - 1) / width, 61);
}

std::vector<std::uint8_t> column(const Stream& m, std::size_t c) {
  std::vector<std::uint8_t> codes(m.rows);
  for (std::size_t i = 0; i < m.rows; ++i) codes[i] = m.data[i * m.cols + c];
  return codes;
}

}  // namespace

bool static_encode(const Stream& s, TablePer per, Bytes& table, Bytes& body) {
  const std::uint32_t width = table_columns(s, per);
  Stream m = code_matrix(s, per);
  m.data.assign(m.count(), 0);
  std::vector<std::uint64_t> counts(m.count());
  for (std::size_t i = 0; i < s.data.size(); ++i) ++counts[std::size_t{s.data[i]} * m.cols + i % s.cols / width];
  for (std::size_t c = 0; c < m.cols; ++c) {
    const std::uint64_t total = std::uint64_t{s.rows} * std::min<std::uint64_t>(width, s.cols - c * width);
    for (std::size_t i = 0; i < m.rows; ++i) {
      const std::uint64_t n = counts[i * m.cols + c];
      if (n != 0)
        m.data[i * m.cols + c] = code_of(std::max<std::uint32_t>(1, static_cast<std::uint32_t>(n * 16384 / total)));
    }
  }
  adaptive_encode(m, Context::both, table);
  if (table.size() < limits::least_payload(m.count())) return false;
  RangeEncoder coder(body);
  for (std::size_t c = 0; c < m.cols; ++c) {
    const auto bounds = cumulative(column(m, c));
    const std::size_t end = std::min<std::size_t>(s.cols, (c + 1) * width);
    for (std::size_t k = c * width; k < end; ++k) {
      for (std::size_t t = 0; t < s.rows; ++t) {
        const std::uint8_t v = s.data[t * s.cols + k];
        coder.encode(bounds[v], bounds[v + 1u] - bounds[v]);
      }
    }
  }
  coder.finish();
  return true;
}

void static_decode(Stream& s, TablePer per, ByteView table, ByteView body) {
  const std::uint32_t width = table_columns(s, per);
  Stream m = code_matrix(s, per);
  if (table.size() < limits::least_payload(m.count())) fail(ErrorCode::corrupt, "tables of {} bytes", table.size());
  adaptive_decode(m, Context::both, table);
  s.data.assign(s.count(), 0);
  RangeDecoder coder(body);
  for (std::size_t c = 0; c < m.cols; ++c) {
    const auto bounds = cumulative(column(m, c));
    if (bounds.back() == 0 && s.rows != 0) fail(ErrorCode::corrupt, "an empty frequency table");
    const std::size_t end = std::min<std::size_t>(s.cols, (c + 1) * width);
    for (std::size_t k = c * width; k < end; ++k) {
      for (std::size_t t = 0; t < s.rows; ++t) {
        const auto above = std::upper_bound(bounds.begin(), bounds.end() - 1, coder.peek());
        const auto v = static_cast<std::size_t>(above - bounds.begin()) - 1;
        coder.consume(bounds[v], bounds[v + 1] - bounds[v]);
        s.data[t * s.cols + k] = static_cast<std::uint8_t>(v);
      }
    }
  }
  coder.finish();
}

}  // namespace kvzip
