// SPDX-License-Identifier: Apache-2.0
// The header as LMCache's RemoteMetadata packs it (lmcache/v1/protocol.py): bytes of the elements, memory format, and
// for each group of layers a number for the type and four extents, 0 where there are fewer. How many groups there are,
// it does not say, so that only what adds up to the stated bytes is taken.
#include "formats/lmcache.hpp"

#include <array>
#include <optional>
#include <utility>
#include <vector>

#include "codec/bytes.hpp"
#include "codec/fail.hpp"
#include "codec/limits.hpp"
#include "formats/placed.hpp"

namespace kvzip {
namespace {

constexpr std::size_t kFrontBytes = 8, kGroupBytes = 20;

struct Header {
  std::uint64_t bytes = 0;  // of the elements
  std::int32_t format = 0;
  std::vector<TensorInfo> groups;
  std::uint64_t size() const { return kFrontBytes + kGroupBytes * groups.size(); }
};

std::optional<DType> type_of(std::int32_t number) {
  constexpr std::array kTypes{DType::f16, DType::f16, DType::bf16,    DType::f32,
                              DType::f64, DType::u8,  DType::f8_e4m3, DType::f8_e5m2};
  if (number < 1 || static_cast<std::size_t>(number) > kTypes.size()) return std::nullopt;
  return kTypes[static_cast<std::size_t>(number) - 1];
}

/// One group, and its bytes added to `sum`; nothing where these integers are none.
std::optional<TensorInfo> read_group(ByteReader& in, std::uint64_t& sum) {
  const auto type = type_of(in.get<std::int32_t>());
  std::array<std::int32_t, 4> extents{};
  for (std::int32_t& extent : extents) extent = in.get<std::int32_t>();
  if (!type) return std::nullopt;
  TensorInfo info{{}, *type, {}};
  std::uint64_t bytes = dtype_unit(*type);
  bool ended = false;
  for (const std::int32_t extent : extents) {
    ended = ended || extent == 0;
    if (extent < 0 || (ended && extent != 0)) return std::nullopt;
    if (ended) continue;
    info.shape.push_back(static_cast<std::uint64_t>(extent));
    if (__builtin_mul_overflow(bytes, info.shape.back(), &bytes)) return std::nullopt;
  }
  if (info.shape.empty() || __builtin_add_overflow(sum, bytes, &sum)) return std::nullopt;
  return info;
}

/// All that these bytes can be, by the number of groups.
std::vector<Header> headers_of(ByteView first) {
  std::vector<Header> out;
  if (first.size() < kFrontBytes + kGroupBytes) return out;
  ByteReader in(first);
  const auto bytes = in.get<std::int32_t>(), format = in.get<std::int32_t>();
  if (bytes <= 0 || format < 1 || format > limits::kLmcacheFormats) return out;
  Header header{static_cast<std::uint64_t>(bytes), format, {}};
  std::uint64_t sum = 0;
  while (header.groups.size() < limits::kLmcacheGroups && first.size() >= header.size() + kGroupBytes) {
    const auto group = read_group(in, sum);
    if (!group || sum > header.bytes) break;
    header.groups.push_back(*group);
    if (sum == header.bytes) out.push_back(header);
  }
  return out;
}

class LmcacheReader final : public PlacedReader {
 public:
  explicit LmcacheReader(InputFile file) : PlacedReader(std::move(file)) {
    Bytes first(std::min<std::uint64_t>(file_.size(), kFrontBytes + kGroupBytes * limits::kLmcacheGroups));
    file_.read_at(0, first);
    const std::vector<Header> all = headers_of(first);
    if (all.empty()) fail_in(file_.path(), ErrorCode::corrupt, "no header of an LMCache chunk");
    const Header& header = all.front();  // sums of bytes grow with each group, so there is no other
    if (file_.size() != header.size() + header.bytes) {
      fail_in(file_.path(), file_.size() < header.size() + header.bytes ? ErrorCode::truncated : ErrorCode::corrupt,
              "the header of this LMCache chunk tells of {} bytes, and {} follow it", header.bytes,
              file_.size() - header.size());
    }
    Dump dump;
    std::vector<std::uint64_t> begins;
    std::uint64_t at = header.size();
    for (std::size_t g = 0; g < header.groups.size(); ++g) {
      TensorInfo info = header.groups[g];
      info.name = header.groups.size() == 1 ? std::string("kv_cache") : fmt::format("group_{}", g);
      // As the header of LMCache's safetensors files states it, which recognition knows.
      dump.attributes.push_back({info.name, "safetensors:fmt", {fmt::to_string(header.format)}, {}, {}, {}});
      begins.push_back(at);
      at += info.bytes();
      dump.tensors.push_back(std::move(info));
    }
    place(std::move(dump), std::move(begins));
  }
};

}  // namespace

bool is_lmcache(ByteView first) {
  return !headers_of(first).empty();
}

std::uint64_t lmcache_bytes(InputStream& in) {
  const std::vector<Header> all = headers_of(in.peek(kFrontBytes + kGroupBytes * limits::kLmcacheGroups));
  return all.empty() ? kUnbounded : all.front().size() + all.front().bytes;
}

std::unique_ptr<DumpReader> open_lmcache(InputFile file) {
  return std::make_unique<LmcacheReader>(std::move(file));
}

}  // namespace kvzip
