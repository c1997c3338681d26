// SPDX-License-Identifier: Apache-2.0
#include "src/cli/shared_prefix.hpp"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <map>
#include <optional>

#include "formats/borrowed_reader.hpp"
#include "formats/ggml_values.hpp"
#include "formats/kvz/kvz.hpp"
#include "formats/kvz/kvz_growth.hpp"
#include "formats/kvz/kvz_plan.hpp"
#include "formats/parts.hpp"

namespace kvzip::tool {
namespace {

constexpr std::uint64_t kStep = 256;  // tokens that are compared at a time

bool is_cache(const TensorRole& role) {
  return role.role != Role::other;
}

/// All keys, values and queries are floats of as many tokens.
bool is_even(const Dump& dump, const Recognition& roles, std::uint64_t tokens) {
  for (std::size_t t = 0; t < dump.tensors.size(); ++t) {
    const TensorRole& role = roles.tensors[t];
    if (!is_cache(role)) continue;
    const TensorInfo& info = dump.tensors[t];
    if (!is_codable_float(info.dtype) || growing_axis(info, role) == Axes::npos) return false;
    if (role.axes.extent('T', info.shape) != tokens) return false;
  }
  return true;
}

struct Pair {
  std::size_t a = 0, b = 0, axis = 0;
};

/// Of the tensors of both; none where they are not of one kind.
std::vector<Pair> pairs_of(const Dump& a, const Recognition& roles_of_a, const Dump& b, const Recognition& roles_of_b) {
  std::map<std::string_view, std::size_t> place;
  for (std::size_t t = 0; t < a.tensors.size(); ++t) {
    if (is_cache(roles_of_a.tensors[t])) place.emplace(a.tensors[t].name, t);
  }
  std::vector<Pair> out;
  for (std::size_t t = 0; t < b.tensors.size(); ++t) {
    const TensorRole& role = roles_of_b.tensors[t];
    if (!is_cache(role)) continue;
    const auto found = place.find(b.tensors[t].name);
    if (found == place.end()) return {};
    const TensorRole& known = roles_of_a.tensors[found->second];
    const std::size_t axis = growing_axis(b.tensors[t], role);
    TensorInfo same = a.tensors[found->second];
    if (same.shape.size() <= axis) return {};
    same.shape[axis] = b.tensors[t].shape[axis];
    const bool alike = known.role == role.role && known.axes == role.axes && known.layer == role.layer;
    if (!alike || same != b.tensors[t]) return {};
    out.push_back({found->second, t, axis});
  }
  return out.size() == place.size() ? out : std::vector<Pair>();
}

/// The first of `count` tokens that differs in the two boxes, or `count`.
std::uint64_t first_difference(const Bytes& left, const Bytes& right, const Slice& box, std::size_t axis,
                               std::size_t unit) {
  std::size_t row = unit;  // bytes of a token
  for (std::size_t d = axis + 1; d < box.count.size(); ++d) row *= box.count[d];
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

std::uint64_t common_tokens(DumpReader& a, const Recognition& roles_of_a, DumpReader& b,
                            const Recognition& roles_of_b) {
  const std::uint64_t in_a = tokens_of(a.dump(), roles_of_a), in_b = tokens_of(b.dump(), roles_of_b);
  if (in_a == 0 || in_b < 2 || roles_of_a.model != roles_of_b.model) return 0;
  if (!is_even(a.dump(), roles_of_a, in_a) || !is_even(b.dump(), roles_of_b, in_b)) return 0;
  std::uint64_t common = std::min(in_a, in_b - 1);
  const std::vector<Pair> pairs = pairs_of(a.dump(), roles_of_a, b.dump(), roles_of_b);
  if (pairs.empty()) return 0;
  Bytes left, right;
  for (const Pair& pair : pairs) {
    for (std::uint64_t at = 0; at < common; at += kStep) {
      const TensorInfo& info = b.dump().tensors[pair.b];
      Slice box{pair.a, std::vector<std::uint64_t>(info.shape.size(), 0), info.shape};
      box.start[pair.axis] = at;
      box.count[pair.axis] = std::min(kStep, common - at);
      left.resize(box.elements() * slice_unit(info));
      right.resize(left.size());
      a.read(box, left);
      box.tensor = pair.b;
      b.read(box, right);
      const std::uint64_t same = first_difference(left, right, box, pair.axis, slice_unit(info));
      if (same < box.count[pair.axis]) common = at + same;
    }
  }
  return common;
}

namespace {

/// The base, and how many tokens of it.
std::optional<std::pair<SharedDump, std::uint64_t>> find_base(const std::vector<SharedDump>& before,
                                                              const std::string& out, const OpenDump& open,
                                                              DumpReader& reader, const Recognition& roles,
                                                              std::uint64_t least) {
  if (reader.traits().once || stored_blocks(reader) != nullptr) return std::nullopt;
  std::optional<std::pair<SharedDump, std::uint64_t>> best;
  const std::filesystem::path folder = std::filesystem::path(out).parent_path();
  for (const SharedDump& one : before) {
    const std::filesystem::path theirs(one.out);
    if (theirs.parent_path() != folder || one.depth >= kMostBases || !is_base_name(theirs.filename().string()))
      continue;
    const auto other = open(one.in);
    if (other.first->traits().once || stored_blocks(*other.first) != nullptr) continue;
    const std::uint64_t common = common_tokens(*other.first, other.second, reader, roles);
    if (common < std::max<std::uint64_t>(least, best ? best->second + 1 : 1)) continue;
    best = {one, common};
  }
  return best;
}

std::uint64_t bytes_of(const Dump& dump) {
  std::uint64_t bytes = 0;
  for (const TensorInfo& tensor : dump.tensors) bytes += tensor.bytes();
  return bytes;
}

}  // namespace

std::unique_ptr<DumpReader> share_prefix(const std::vector<SharedDump>& before, const std::string& out,
                                         const OpenDump& open, std::unique_ptr<DumpReader>& reader, Recognition& roles,
                                         KvzOptions& options, Outcome& outcome) {
  std::uint64_t least = options.chunk_tokens.value_or(0);
  if (least == 0) least = kDefaultChunk;
  const auto base = find_base(before, out, open, *reader, roles, least);
  if (!base) return nullptr;
  const auto [dump, tokens] = *base;
  options.base = base_of(dump.out, tokens);
  roles.model.rope.first_position += tokens;
  for (auto& own : roles.model.own) own.second.rope.first_position += tokens;
  std::unique_ptr<DumpReader> whole = std::exchange(reader, nullptr);
  reader = std::make_unique<TailReader>(*whole, roles, tokens);
  outcome.bases = dump.depth + 1;
  outcome.shared_tokens = tokens;
  outcome.shared_bytes = bytes_of(whole->dump()) - bytes_of(reader->dump());
  return whole;
}

}  // namespace kvzip::tool
