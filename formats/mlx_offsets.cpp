// SPDX-License-Identifier: Apache-2.0
#include "formats/mlx_offsets.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <set>
#include <vector>

#include "formats/borrowed_reader.hpp"
#include "formats/left_out.hpp"
#include "formats/mlx_cache.hpp"

namespace kvzip {
namespace {

using Tokens = std::pair<std::uint64_t, std::uint64_t>;

/// The arrays N.2 of plain caches; their classes are metadata 1.N.
std::set<std::size_t> find_offsets(const Dump& dump) {
  std::set<std::size_t> out;
  if (!MlxCache(dump).present()) return out;
  for (std::size_t t = 0; t < dump.tensors.size(); ++t) {
    const TensorInfo& info = dump.tensors[t];
    const std::vector<std::uint32_t> path = numeric_path(info.name);
    const bool scalar = info.shape.empty() && (info.dtype == DType::i32 || info.dtype == DType::i64);
    if (!scalar || path.size() != 2 || path[1] != 2) continue;
    if (dump.text(fmt::format("1.{}", path[0])) == "KVCache") out.insert(t);
  }
  return out;
}

template <typename T>
void move_offset(std::span<std::byte> bytes, const Tokens& tokens) {
  T offset{};
  std::memcpy(&offset, bytes.data(), sizeof offset);
  const std::uint64_t used = offset > 0 ? static_cast<std::uint64_t>(offset) : 0, end = std::min(used, tokens.second);
  offset = static_cast<T>(end - std::min(end, tokens.first));
  std::memcpy(bytes.data(), &offset, sizeof offset);
}

class MlxOffsets final : public BorrowedReader, public LeavesOut {
 public:
  MlxOffsets(std::unique_ptr<DumpReader> rest, std::set<std::size_t> offsets, const Tokens& tokens)
      : BorrowedReader(*rest), rest_(std::move(rest)), offsets_(std::move(offsets)), tokens_(tokens) {}

  void expand(Part& part) const override {
    rest_->expand(part);
    for (std::size_t i = 0; i < part.slices.size(); ++i) move(part.slices[i].tensor, part.data[i]);
  }
  void read(const Slice& slice, std::span<std::byte> out) override {
    rest_->read(slice, out);
    move(slice.tensor, out);
  }
  std::vector<std::string> left_out() const override { return left_out_of(*rest_); }

 private:
  void move(std::size_t tensor, std::span<std::byte> bytes) const {
    if (!offsets_.contains(tensor)) return;
    bytes.size() == sizeof(std::int32_t) ? move_offset<std::int32_t>(bytes, tokens_)
                                         : move_offset<std::int64_t>(bytes, tokens_);
  }

  std::unique_ptr<DumpReader> rest_;
  std::set<std::size_t> offsets_;
  Tokens tokens_;
};

}  // namespace

std::unique_ptr<DumpReader> with_mlx_offsets(std::unique_ptr<DumpReader> reader, Tokens tokens) {
  std::set<std::size_t> offsets = find_offsets(reader->dump());
  if (offsets.empty()) return reader;
  return std::make_unique<MlxOffsets>(std::move(reader), std::move(offsets), tokens);
}

}  // namespace kvzip
