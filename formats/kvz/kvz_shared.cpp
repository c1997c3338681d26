// SPDX-License-Identifier: Apache-2.0
#include "formats/kvz/kvz_shared.hpp"

#include <algorithm>
#include <filesystem>
#include <map>
#include <optional>
#include <utility>

#include "codec/fail.hpp"
#include "codec/limits.hpp"
#include "formats/boxes.hpp"
#include "formats/kvz/kvz.hpp"
#include "formats/kvz/kvz_growth.hpp"
#include "formats/kvz/kvz_records.hpp"
#include "formats/kvz/kvz_segments.hpp"
#include "formats/parts.hpp"
#include "formats/selection.hpp"
#include "formats/text.hpp"

namespace kvzip {
namespace {

/// The end record and the footer: the former has the hash of the hashes of all records.
constexpr std::uint64_t kIdentifying = kRecordHeaderBytes + 24 + kRecordTailBytes + kFooterBytes;

/// Its first tokens, without what is no cache.
std::unique_ptr<DumpReader> first_tokens(std::unique_ptr<KvzReader> base, std::uint64_t tokens) {
  const Recognition roles = *base->recognition();
  Selection wanted;
  wanted.tokens = {0, tokens};
  wanted.roles = {Role::key, Role::value, Role::query};
  return select(std::move(base), roles, wanted);
}

class SharedContainer final : public KvzReader {
 public:
  SharedContainer(std::unique_ptr<KvzReader> own, std::unique_ptr<KvzReader> base)
      : own_(std::move(own)),
        dump_(own_->dump()),
        roles_(*own_->recognition()),
        tokens_(own_->description().base->tokens) {
    reads_through(*own_);
    reads_through(*base);
    const std::uint64_t there = tokens_of(base->dump(), *base->recognition());
    if (there < tokens_) fail(ErrorCode::corrupt, "it takes {} tokens of a container of {}", tokens_, there);
    prefix_ = first_tokens(std::move(base), tokens_);
    move_back();
    match();
    if (__builtin_add_overflow(prefix_->part_count(), own_->part_count(), &parts_)) {
      fail(ErrorCode::limit, "the containers together have more parts than 64 bits can count");
    }
  }

  const Dump& dump() const override { return dump_; }
  const Recognition* recognition() const override { return &roles_; }
  std::uint64_t part_count() const override { return parts_; }
  const KvzSummary& description() const override { return own_->description(); }
  const Tables& stored_tables() const override { return own_->stored_tables(); }
  KvzSummary summary() override { return own_->summary(); }
  void use_tables(const Tables& tables) override { own_->use_tables(tables); }
  void check_cost() const override { own_->check_cost(); }

  Part part(std::uint64_t index) const override {
    const std::uint64_t before = prefix_->part_count();
    Part part = index < before ? prefix_->part(index) : own_->part(index - before);
    outwards(index < before, part);
    part.index = index;
    return part;
  }
  /// Until expand() the part is the other reader's, but for its index.
  void fetch(Part& part) override {
    const std::uint64_t index = part.index, before = prefix_->part_count();
    DumpReader& from = index < before ? *prefix_ : static_cast<DumpReader&>(*own_);
    part.index = index < before ? index : index - before;
    part.slices = from.part(part.index).slices;
    from.fetch(part);
    part.index = index;
  }
  void expand(Part& part) const override {
    const std::uint64_t index = part.index, before = prefix_->part_count();
    const DumpReader& from = index < before ? *prefix_ : static_cast<const DumpReader&>(*own_);
    part.index = index < before ? index : index - before;
    from.expand(part);
    outwards(index < before, part);
    part.index = index;
  }

  void read(const Slice& slice, std::span<std::byte> out) override {
    check_slice(dump_, slice, out.size());
    const std::size_t axis = axis_[slice.tensor];
    if (axis == Axes::npos) return own_->read(slice, out);
    for (const bool front : {true, false}) {
      Slice all{slice.tensor, std::vector<std::uint64_t>(slice.count.size(), 0),
                slice_shape(dump_.tensors[slice.tensor])};
      all.start[axis] = front ? 0 : tokens_;
      all.count[axis] = front ? tokens_ : all.count[axis] - tokens_;
      const auto common = intersect(all, slice);
      if (!common) continue;
      Slice inner = *common;
      if (front) inner.tensor = in_prefix_[slice.tensor];
      if (!front) inner.start[axis] -= tokens_;
      const std::size_t unit = slice_unit(dump_.tensors[slice.tensor]);
      Bytes data(inner.elements() * unit);
      front ? prefix_->read(inner, data) : own_->read(inner, data);
      copy_box(*common, unit, *common, data, slice, out);
    }
  }

  ReaderTraits traits() override {
    ReaderTraits out = own_->traits();
    const ReaderTraits front = prefix_->traits();
    out.container = this;
    out.chunk_tokens = std::max(out.chunk_tokens, front.chunk_tokens);
    out.max_error.reset();
    return out;
  }

 private:
  /// To the position of the first token of all.
  void move_back() {
    if (roles_.model.rope.first_position < tokens_) {
      fail(ErrorCode::corrupt, "header: its first token is at position {}, behind {} others",
           roles_.model.rope.first_position, tokens_);
    }
    roles_.model.rope.first_position -= tokens_;
    for (auto& [layer, attention] : roles_.model.own) attention.rope.first_position -= tokens_;
  }

  void match() {
    const Dump& front = prefix_->dump();
    const Recognition& roles = *prefix_->recognition();
    std::map<std::string_view, std::size_t> place;
    for (std::size_t t = 0; t < front.tensors.size(); ++t) place.emplace(front.tensors[t].name, t);
    axis_.assign(dump_.tensors.size(), Axes::npos);
    in_prefix_.assign(dump_.tensors.size(), 0);
    outer_.assign(front.tensors.size(), 0);
    std::size_t matched = 0;
    for (std::size_t t = 0; t < dump_.tensors.size(); ++t) {
      TensorInfo& info = dump_.tensors[t];
      const TensorRole& role = roles_.tensors[t];
      if (role.role == Role::other) continue;
      const auto found = place.find(info.name);
      const std::size_t axis = growing_axis(info, role);
      bool fits = found != place.end() && axis != Axes::npos;
      if (fits) {
        TensorInfo same = info;
        same.shape[axis] = tokens_;
        const TensorRole& known = roles.tensors[found->second];
        fits = front.tensors[found->second] == same && known.role == role.role && known.axes == role.axes &&
               known.layer == role.layer;
      }
      if (!fits) fail(ErrorCode::corrupt, "tensor {} does not go on one of its base", quoted(info.name));
      axis_[t] = axis;
      in_prefix_[t] = found->second;
      outer_[found->second] = t;
      ++matched;
      grow_tensor(info, front.tensors[found->second], axis);
    }
    if (matched != front.tensors.size()) fail(ErrorCode::corrupt, "its base has keys or values that it has not");
  }

  void outwards(bool front, Part& part) const {
    for (Slice& slice : part.slices) {
      if (front) {
        slice.tensor = outer_[slice.tensor];
      } else if (axis_[slice.tensor] != Axes::npos) {
        slice.start[axis_[slice.tensor]] += tokens_;
      }
    }
  }

  std::unique_ptr<KvzReader> own_;
  Dump dump_;
  Recognition roles_;
  std::uint64_t tokens_;
  std::unique_ptr<DumpReader> prefix_;
  std::vector<std::size_t> axis_, in_prefix_;  // by tensors; the axis of tokens, npos for what is stored whole
  std::vector<std::size_t> outer_;             // by tensors of the prefix
  std::uint64_t parts_ = 0;
};

/// Of the container that ends after so many bytes.
std::uint64_t identifying_hash(const InputFile& file, std::uint64_t bytes) {
  Bytes end(kIdentifying);
  file.read_at(bytes - end.size(), end);
  return hash64(end);
}

/// The file as it was when its tokens were shared: what was appended since is left out, an append that was not
/// finished, too. Nothing where it is not that file, or has something else behind it.
std::optional<InputFile> as_shared(InputFile file, const KvzBase& stated) {
  if (stated.bytes < kIdentifying || file.size() < stated.bytes) return std::nullopt;
  if (identifying_hash(file, stated.bytes) != stated.hash) return std::nullopt;
  if (file.size() == stated.bytes) return file;
  const Segments segments = find_segments(file);
  const auto ends = [&](const Segment& s) { return s.begin + s.bytes == stated.bytes; };
  const auto last = std::ranges::find_if(segments.all, ends);
  if (last == segments.all.end() || !std::ranges::all_of(segments.all.begin(), last + 1, &Segment::sound))
    return std::nullopt;
  const bool grew = last + 1 != segments.all.end() ? (last + 1)->sound : segments.rest == Segments::Rest::cut;
  if (!grew) return std::nullopt;
  std::string name = file.path();
  return InputFile(std::move(file), 0, stated.bytes, std::move(name));
}

}  // namespace

bool is_base_name(std::string_view name) {
  return !name.empty() && name.size() <= 255 && name != "." && name != ".." && is_utf8(name) &&
         std::ranges::none_of(name, [](char c) { return c == '/' || c == '\\' || (c >= 0 && c < 0x20) || c == 0x7f; });
}

std::unique_ptr<KvzReader> open_shared(std::unique_ptr<KvzReader> own, std::unique_ptr<KvzReader> base) {
  return std::make_unique<SharedContainer>(std::move(own), std::move(base));
}

KvzBase base_of(const InputFile& file, std::uint64_t tokens) {
  const std::uint64_t bytes = file.size();
  if (bytes < kIdentifying) fail(ErrorCode::truncated, "{} bytes are no container", bytes);
  return {file.path().substr(file.path().rfind('/') + 1), tokens, bytes, identifying_hash(file, bytes)};
}

KvzBase base_of(const std::string& path, std::uint64_t tokens) {
  return base_of(InputFile(path), tokens);
}

std::unique_ptr<KvzReader> open_base(const KvzBase& stated, const std::string& path, unsigned depth) {
  if (depth >= limits::kBases)
    fail(ErrorCode::limit, "more than {} containers begin with tokens of each other", limits::kBases);
  const std::string beside = path.substr(0, path.rfind('/') + 1) + stated.file;
  return in_file(beside, [&] {
    // A pipe of that name would be waited for.
    if (!stored_bytes(beside)) {
      std::error_code error;
      if (std::filesystem::exists(beside, error)) fail(ErrorCode::io, "is no file");
      fail(ErrorCode::io, "not here, and the first {} tokens of {} are in it", stated.tokens, path);
    }
    InputFile file(beside);
    const bool grown = file.size() > stated.bytes;
    auto base = as_shared(std::move(file), stated);
    if (!base) {
      fail(ErrorCode::corrupt, "it has changed since its first {} tokens were shared with {}", stated.tokens, path);
    }
    auto reader = open_kvz(std::move(*base), beside, depth + 1);
    if (grown && reader->description().base) {
      fail(ErrorCode::corrupt, "something was appended to it, and its first tokens are in another file");
    }
    return reader;
  });
}

}  // namespace kvzip
