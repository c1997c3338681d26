// SPDX-License-Identifier: Apache-2.0
#include "formats/kvz/kvz_appended.hpp"

#include <algorithm>
#include <utility>

#include "codec/fail.hpp"
#include "formats/boxes.hpp"
#include "formats/kvz/kvz_growth.hpp"
#include "formats/kvz/part_cache.hpp"
#include "formats/parts.hpp"

namespace kvzip {
namespace {

/// Adds what `more` holds to the group of the same tensors and pipeline.
void add_group(const KvzGroup& more, std::vector<KvzGroup>& groups) {
  const auto found = std::ranges::find_if(groups, [&](const KvzGroup& g) {
    return g.tensors == more.tensors && g.role == more.role && g.pipeline == more.pipeline &&
           g.chunk_rows == more.chunk_rows && g.restart == more.restart && g.members.size() == more.members.size();
  });
  if (found == groups.end()) {
    groups.push_back(more);
    return;
  }
  for (std::size_t i = 0; i < more.members.size(); ++i) found->members[i].values += more.members[i].values;
  found->values += more.values;
  found->source_bytes += more.source_bytes;
  found->rows += more.rows;
  found->frames += more.frames;
  found->raw_frames += more.raw_frames;
  found->coded_bytes += more.coded_bytes;
  found->frame_bytes.insert(found->frame_bytes.end(), more.frame_bytes.begin(), more.frame_bytes.end());
  for (std::size_t l = 0; l < kStreamLabels; ++l) found->stream_bytes[l] += more.stream_bytes[l];
}

class AppendedContainer final : public KvzReader {
 public:
  AppendedContainer(std::uint64_t file_bytes, std::uint64_t unfinished, std::vector<std::unique_ptr<KvzReader>> readers)
      : file_bytes_(file_bytes), unfinished_(unfinished) {
    for (auto& reader : readers) add(std::move(reader));
    description_ = joined([](KvzReader& reader) { return reader.description(); });
    description_.file_bytes = 0;
  }

  const Dump& dump() const override { return dump_; }
  const Recognition* recognition() const override { return segments_[0].reader->recognition(); }
  std::uint64_t part_count() const override { return parts_; }
  const KvzSummary& description() const override { return description_; }
  const Tables& stored_tables() const override { return segments_[0].reader->stored_tables(); }

  Part part(std::uint64_t index) const override {
    const Member& member = with_part(index);
    Part part = member.reader->part(index - member.first_part);
    outwards(member, part);
    return part;
  }
  /// Until expand() the part is the segment's own, but for its index.
  void fetch(Part& part) override {
    const Member& member = with_part(part.index);
    const std::uint64_t index = std::exchange(part.index, part.index - member.first_part);
    part.slices = member.reader->part(part.index).slices;
    member.reader->fetch(part);
    part.index = index;
  }
  void expand(Part& part) const override {
    const Member& member = with_part(part.index);
    part.index -= member.first_part;
    member.reader->expand(part);
    outwards(member, part);
  }

  void read(const Slice& slice, std::span<std::byte> out) override {
    check_slice(dump_, slice, out.size());
    for (const Member& member : segments_) {
      const std::size_t t = member.own[slice.tensor];
      if (t == kNone) continue;
      const TensorInfo& info = member.reader->dump().tensors[t];
      Slice all{t, std::vector<std::uint64_t>(slice.count.size(), 0), slice_shape(info)};
      outwards(member, all);
      if (const auto common = intersect(all, slice)) read_common(member, t, *common, slice, out);
    }
  }

  KvzSummary summary() override {
    KvzSummary out = joined([](KvzReader& reader) { return reader.summary(); });
    out.file_bytes = file_bytes_;
    return out;
  }
  void use_tables(const Tables& tables) override {
    for (const Member& member : segments_) member.reader->use_tables(tables);
  }
  void check_cost() const override {
    for (const Member& member : segments_) member.reader->check_cost();
  }
  ReaderTraits traits() override {
    ReaderTraits out = segments_[0].reader->traits();
    out.container = this;
    for (const Member& member : segments_) {
      const ReaderTraits one = member.reader->traits();
      out.chunk_tokens = std::max(out.chunk_tokens, one.chunk_tokens);
      // What is said of some says nothing of all.
      out.max_error =
          out.max_error && one.max_error ? std::optional(std::max(*out.max_error, *one.max_error)) : std::nullopt;
    }
    return out;
  }

 private:
  static constexpr std::size_t kNone = ~std::size_t{0};
  struct Member {
    std::unique_ptr<KvzReader> reader;
    std::uint64_t first_part = 0;
    std::vector<std::size_t> growth;    // by its tensors: the file's
    std::vector<std::size_t> own;       // by the file's tensors: its own, or kNone
    std::vector<std::uint64_t> offset;  // by its tensors: where they begin along the growing axis
    std::vector<std::size_t> axis;      // by its tensors
  };

  void add(std::unique_ptr<KvzReader> reader) {
    Member member{std::move(reader), parts_, {}, {}, {}, {}};
    const Dump& more = member.reader->dump();
    if (segments_.empty()) {
      dump_ = more;
      for (std::size_t t = 0; t < more.tensors.size(); ++t) member.growth.push_back(t);
      member.offset.assign(more.tensors.size(), 0);
      member.axis.assign(more.tensors.size(), 0);
    } else {
      grow(member, more);
    }
    member.own.assign(dump_.tensors.size(), kNone);
    for (std::size_t t = 0; t < member.growth.size(); ++t) member.own[member.growth[t]] = t;
    if (__builtin_add_overflow(parts_, member.reader->part_count(), &parts_)) {
      fail(ErrorCode::limit, "the containers together have more parts than 64 bits can count");
    }
    segments_.push_back(std::move(member));
  }

  void grow(Member& member, const Dump& more) {
    const Recognition& roles = *recognition();
    try {
      member.growth = plan_growth(dump_, roles, more, *member.reader->recognition());
    } catch (Error& error) {
      fail(error.code() == ErrorCode::invalid_argument ? ErrorCode::corrupt : error.code(),
           "what was appended does not go on: {}", error.message());
    }
    for (std::size_t t = 0; t < more.tensors.size(); ++t) {
      TensorInfo& info = dump_.tensors[member.growth[t]];
      const std::size_t axis = growing_axis(info, roles.tensors[member.growth[t]]);
      member.axis.push_back(axis);
      member.offset.push_back(grow_tensor(info, more.tensors[t], axis));
    }
  }

  const Member& with_part(std::uint64_t index) const {
    if (index >= parts_) fail(ErrorCode::invalid_argument, "there is no part {} of {}", index, parts_);
    const auto after = std::upper_bound(segments_.begin(), segments_.end(), index,
                                        [](std::uint64_t i, const Member& m) { return i < m.first_part; });
    return *(after - 1);
  }

  static void outwards(const Member& member, Slice& slice) {
    const std::size_t t = slice.tensor;
    if (member.offset[t] != 0) slice.start[member.axis[t]] += member.offset[t];
    slice.tensor = member.growth[t];
  }
  static void outwards(const Member& member, Part& part) {
    part.index += member.first_part;
    for (Slice& slice : part.slices) outwards(member, slice);
  }

  static void read_common(const Member& member, std::size_t tensor, const Slice& common, const Slice& slice,
                          std::span<std::byte> out) {
    const std::size_t unit = slice_unit(member.reader->dump().tensors[tensor]);
    Slice own = common;
    own.tensor = tensor;
    if (member.offset[tensor] != 0) own.start[member.axis[tensor]] -= member.offset[tensor];
    if (common.start == slice.start && common.count == slice.count) return member.reader->read(own, out);
    Bytes data(own.elements() * unit);
    member.reader->read(own, data);
    copy_box(common, unit, common, data, slice, out);
  }

  template <typename F>
  KvzSummary joined(F&& summary_of) const {
    KvzSummary out = summary_of(*segments_[0].reader);
    if (segments_.size() > 1) out.results.reset();
    out.appended = segments_.size() - 1;
    if (out.appended > 0) out.minor = std::max(out.minor, 1u);
    out.unfinished = unfinished_;
    for (std::size_t s = 1; s < segments_.size(); ++s) {
      const KvzSummary more = summary_of(*segments_[s].reader);
      out.minor = std::max(out.minor, more.minor);
      for (KvzGroup group : more.groups) {
        for (std::size_t& tensor : group.tensors) tensor = segments_[s].growth.at(tensor);
        add_group(group, out.groups);
      }
    }
    return out;
  }

  std::uint64_t file_bytes_, unfinished_;
  std::vector<Member> segments_;
  Dump dump_;
  std::uint64_t parts_ = 0;
  KvzSummary description_;
};

}  // namespace

std::unique_ptr<KvzReader> open_appended(InputFile file, const Segments& segments, OpenSegment open) {
  const auto shared = std::make_shared<const InputFile>(std::move(file));
  std::vector<std::unique_ptr<KvzReader>> readers;
  for (const Segment& segment : segments.all) {
    readers.push_back(open(segment_file(shared, segment), PartCache::kBytes / segments.all.size()));
  }
  return std::make_unique<AppendedContainer>(segments.end, shared->size() - segments.end, std::move(readers));
}

}  // namespace kvzip
