// SPDX-License-Identifier: Apache-2.0
// Every coder, on streams made from the input: what is coded comes back; damaged or invented bytes are refused or give
// numbers in their range, with the errors of the contract.
#include <algorithm>
#include <cstdlib>

#include "codec/bytes.hpp"
#include "codec/stage.hpp"
#include "kvzip/error.hpp"

namespace {

using namespace kvzip;

bool fits(const Stream& s) {
  if (s.type == StreamType::positions) {
    if (s.positions.size() != s.count()) return false;
    for (std::size_t i = 0; i < s.positions.size(); ++i) {
      if (s.positions[i] >= s.alphabet || (i % s.cols != 0 && s.positions[i - 1] >= s.positions[i])) return false;
    }
    return true;
  }
  if (s.type == StreamType::elements) return s.data.size() == s.count() * s.width;
  return s.data.size() == s.count() &&
         std::all_of(s.data.begin(), s.data.end(), [&](std::uint8_t v) { return v < s.alphabet; });
}

void decode(const Coder& coder, Stream s, ByteView table, ByteView body) {
  s.data.clear();
  s.positions.clear();
  try {
    coder.decode(s, table, body);
    if (!fits(s)) std::abort();
  } catch (const Error& e) {
    if (e.code() != ErrorCode::corrupt && e.code() != ErrorCode::truncated && e.code() != ErrorCode::limit)
      std::abort();
  }
}

/// Numbers in range, whatever the bytes: repeated to the stream's length, with the bytes' own skew.
void fill(Stream& s, ByteView bytes) {
  const auto byte = [&](std::size_t i) {
    return bytes.empty() ? 0u : static_cast<unsigned>(bytes[i % bytes.size()]) ^ static_cast<unsigned>(i / 4096 % 4);
  };
  if (s.type == StreamType::positions) {
    for (std::size_t i = 0; i < s.count(); ++i) {
      const std::uint64_t left = s.cols - i % s.cols, next = i % s.cols == 0 ? 0 : s.positions.back() + 1u;
      s.positions.push_back(static_cast<std::uint32_t>(next + byte(i) % (s.alphabet - next - left + 1)));
    }
    return;
  }
  const std::size_t unit = s.type == StreamType::elements ? s.width : 1;
  for (std::size_t i = 0; i < s.count() * unit; ++i) {
    s.data.push_back(static_cast<std::uint8_t>(s.type == StreamType::elements ? byte(i) : byte(i) % s.alphabet));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 12) return 0;
  const auto rows = coder_table();
  const auto& row = rows[data[0] % rows.size()];
  const auto coder = row.make();
  Stream s;
  s.type = static_cast<StreamType>(data[1] % 3);
  s.alphabet = data[2] + 1u;
  s.cols = data[4] % 80 + 1u;
  s.width = 1u << data[5] % 4;
  s.head_dim = data[6] % 2 == 0 ? 0 : data[7] % s.cols + 1;
  if (s.type == StreamType::symbols && data[5] >= 128) s.alphabet = 16, s.magnitudes = true;
  if (s.type == StreamType::positions) s.cols = static_cast<std::uint32_t>(std::min<std::uint64_t>(s.cols, s.alphabet));
  // Few bytes to code for most inputs, so that there can be many.
  const std::uint32_t most = (data[7] == 255 ? 2048 : 256) / (s.cols * (s.type == StreamType::elements ? s.width : 1));
  s.rows = std::min(data[3] % 128 + 1u, std::max(most, 1u));
  const ByteView rest = std::as_bytes(std::span(data, size)).subspan(12);
  if (s.magnitudes && data[6] >= 128) {
    if (data[6] % 4 == 0 && s.cols > 1) s.gains.spans.push_back(data[7] % (s.cols - 1) + 1);
    s.gains.spans.push_back(s.cols);
    for (std::size_t i = 0; i < s.rows * s.gains.spans.size(); ++i)
      s.gains.values.push_back(static_cast<std::int8_t>(data[i % size] % 63 - 31));
  }

  const std::size_t table_size = std::min<std::size_t>(data[8], rest.size());
  decode(*coder, s, rest.first(table_size), rest.subspan(table_size));

  fill(s, rest);
  Bytes table, body;
  coder->encode(s, table, body);
  Stream back = s;
  back.data.clear();
  back.positions.clear();
  coder->decode(back, table, body);
  if (back.data != s.data || back.positions != s.positions) std::abort();
  Bytes& victim = data[9] % 4 == 0 && !table.empty() ? table : body;
  if (victim.empty()) return 0;
  victim[(data[9] / 4u * 256u + data[10]) % victim.size()] ^= static_cast<std::byte>(data[11] | 1);
  decode(*coder, s, table, body);
  return 0;
}
