// SPDX-License-Identifier: Apache-2.0
#include "src/cli/shared_prefix.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <utility>

#include "codec/splitmix64.hpp"
#include "formats/kvz/kvz.hpp"
#include "formats/kvz/kvz_growth.hpp"
#include "formats/kvz/kvz_plan.hpp"
#include "formats/kvz/kvz_records.hpp"
#include "formats/parts.hpp"

namespace kvzip::tool {
namespace {

constexpr std::uint64_t kStep = 256;  // tokens that are compared at a time

bool is_cache(const TensorRole& role) {
  return role.role != Role::other;
}

/// Keys, values and queries by name.
std::map<std::string_view, std::size_t> caches_of(const Dump& dump, const Recognition& roles) {
  std::map<std::string_view, std::size_t> out;
  for (std::size_t t = 0; t < dump.tensors.size(); ++t) {
    if (is_cache(roles.tensors[t])) out.emplace(dump.tensors[t].name, t);
  }
  return out;
}

/// Tokens [at, at + count) of a tensor.
Slice tokens_from(const Dump& dump, std::size_t tensor, std::size_t axis, std::uint64_t at, std::uint64_t count) {
  const TensorInfo& info = dump.tensors[tensor];
  Slice box{tensor, std::vector<std::uint64_t>(info.shape.size(), 0), info.shape};
  box.start[axis] = at;
  box.count[axis] = count;
  return box;
}

/// Bytes of a token that stand together.
std::size_t row_bytes(const Slice& box, std::size_t axis, std::size_t unit) {
  std::size_t row = unit;
  for (std::size_t d = axis + 1; d < box.count.size(); ++d) row *= box.count[d];
  return row;
}

/// The first token that differs in the two boxes, or how many there are.
std::uint64_t first_difference(const Bytes& left, const Bytes& right, const Slice& box, std::size_t axis,
                               std::size_t unit) {
  const std::size_t row = row_bytes(box, axis, unit);
  std::uint64_t first = box.count[axis];
  const std::size_t rows = row == 0 ? 0 : left.size() / row;
  for (std::size_t r = 0; r < rows; ++r) {
    const std::uint64_t token = r % box.count[axis];
    if (token < first && std::memcmp(left.data() + r * row, right.data() + r * row, row) != 0) first = token;
  }
  return first;
}

class TailReader final : public DumpReader {
 public:
  TailReader(DumpReader& inner, Recognition roles, std::uint64_t tokens)
      : inner_(inner), dump_(inner.dump()), roles_(std::move(roles)), tokens_(tokens) {
    reads_through(inner);
    for (std::size_t t = 0; t < dump_.tensors.size(); ++t) {
      const bool cache = is_cache(roles_.tensors[t]);
      axis_.push_back(cache ? growing_axis(dump_.tensors[t], roles_.tensors[t]) : Axes::npos);
      if (cache) dump_.tensors[t].shape[axis_[t]] -= tokens;
    }
    parts_ = DumpParts(dump_);
  }
  const Dump& dump() const override { return dump_; }
  const Recognition* recognition() const override { return &roles_; }
  std::uint64_t part_count() const override { return parts_.count(); }
  Part part(std::uint64_t index) const override { return parts_.part(dump_, index); }
  void fetch(Part& part) override { fetch_by_reading(*this, part); }
  void read(const Slice& slice, std::span<std::byte> out) override {
    Slice own = slice;
    if (const std::size_t axis = axis_.at(slice.tensor); axis != Axes::npos) own.start[axis] += tokens_;
    inner_.read(own, out);
  }

 private:
  DumpReader& inner_;
  Dump dump_;
  Recognition roles_;
  std::uint64_t tokens_;
  std::vector<std::size_t> axis_;
  DumpParts parts_;
};

}  // namespace

std::string sharing_kind(const Dump& dump, const Recognition& roles) {
  const std::uint64_t tokens = tokens_of(dump, roles);
  std::string out;
  for (const auto& [name, t] : caches_of(dump, roles)) {
    const TensorRole& role = roles.tensors[t];
    const TensorInfo& info = dump.tensors[t];
    const std::size_t axis = growing_axis(info, role);
    if (!is_codable_float(info.dtype) || axis == Axes::npos) return {};
    if (role.axes.extent('T', info.shape) != tokens) return {};
    out += fmt::format("{}:{} {} {} {} {}", name.size(), name, static_cast<int>(info.dtype),
                       static_cast<int>(role.role), role.axes.text(), role.layer ? std::int64_t{*role.layer} : -1);
    for (std::size_t d = 0; d < info.shape.size(); ++d) out += d == axis ? " T" : fmt::format(" {}", info.shape[d]);
    out += '\n';
  }
  return out;
}

std::uint64_t common_tokens(DumpReader& a, const Recognition& roles_of_a, DumpReader& b, const Recognition& roles_of_b,
                            const Progress& progress) {
  const std::uint64_t in_a = tokens_of(a.dump(), roles_of_a), in_b = tokens_of(b.dump(), roles_of_b);
  if (in_a == 0 || in_b < 2 || roles_of_a.model != roles_of_b.model) return 0;
  const std::string kind = sharing_kind(a.dump(), roles_of_a);
  if (kind.empty() || kind != sharing_kind(b.dump(), roles_of_b)) return 0;
  std::uint64_t common = std::min(in_a, in_b - 1);
  const auto place = caches_of(a.dump(), roles_of_a);
  Bytes left, right;
  std::uint64_t done = 0;
  for (const auto& [name, t] : caches_of(b.dump(), roles_of_b)) {
    const std::size_t unit = slice_unit(b.dump().tensors[t]);
    const std::size_t axis = growing_axis(b.dump().tensors[t], roles_of_b.tensors[t]);
    for (std::uint64_t at = 0; at < common; at += kStep) {
      Slice box = tokens_from(b.dump(), t, axis, at, std::min(kStep, common - at));
      left.resize(box.elements() * unit);
      right.resize(left.size());
      b.read(box, right);
      box.tensor = place.at(name);
      a.read(box, left);
      const std::uint64_t same = first_difference(left, right, box, axis, unit);
      if (same < box.count[axis]) common = at + same;
    }
    if (progress) progress(++done, place.size());
  }
  return common;
}

void TokenHashes::extend(DumpReader& reader, const Recognition& roles, std::uint64_t count) {
  const Dump& dump = reader.dump();
  Bytes some;
  for (std::uint64_t at = hashes_.size(); at < std::min(count, tokens_); at = hashes_.size()) {
    const std::uint64_t step = std::min(kStep, tokens_ - at);
    hashes_.resize(at + step);
    for (const auto& [name, t] : caches_of(dump, roles)) {
      const std::size_t unit = slice_unit(dump.tensors[t]), axis = growing_axis(dump.tensors[t], roles.tensors[t]);
      const Slice box = tokens_from(dump, t, axis, at, step);
      some.resize(box.elements() * unit);
      reader.read(box, some);
      const std::size_t row = row_bytes(box, axis, unit);
      for (std::size_t r = 0; row > 0 && r < some.size() / row; ++r) {
        std::uint64_t& hash = hashes_[at + r % step];
        hash = splitmix64(hash, hash64(ByteView(some).subspan(r * row, row)));
      }
    }
  }
}

namespace {

std::uint64_t bytes_of(const Dump& dump) {
  std::uint64_t bytes = 0;
  for (const TensorInfo& tensor : dump.tensors) bytes += tensor.bytes();
  return bytes;
}

}  // namespace

std::uint64_t least_shared(const KvzOptions& options) {
  const std::uint64_t chunk = options.chunk_tokens.value_or(0);
  return chunk == 0 ? kDefaultChunk : chunk;
}

std::unique_ptr<DumpReader> share_prefix(const SharedDump& base, const OpenDump& open,
                                         std::unique_ptr<DumpReader>& reader, Recognition& roles, KvzOptions& options,
                                         Outcome& outcome, const Progress& progress) {
  if (reader->traits().once || stored_blocks(*reader) != nullptr) return nullptr;
  const auto other = open(base.in);
  if (other.first->traits().once || stored_blocks(*other.first) != nullptr) return nullptr;
  const std::uint64_t tokens = common_tokens(*other.first, other.second, *reader, roles, progress);
  if (tokens < least_shared(options)) return nullptr;
  const std::string name = base.out.substr(base.out.rfind('/') + 1);
  options.base = base.all != nullptr ? base_of(base.all->member(name), tokens) : base_of(base.out, tokens);
  roles.model.rope.first_position += tokens;
  for (auto& own : roles.model.own) own.second.rope.first_position += tokens;
  std::unique_ptr<DumpReader> whole = std::exchange(reader, nullptr);
  reader = std::make_unique<TailReader>(*whole, roles, tokens);
  outcome.shared_tokens = tokens;
  outcome.shared_bytes = bytes_of(whole->dump()) - bytes_of(reader->dump());
  return whole;
}

}  // namespace kvzip::tool
