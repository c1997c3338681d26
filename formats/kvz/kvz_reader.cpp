// SPDX-License-Identifier: Apache-2.0
// A container as a dump: from a file in any order, from a pipe front to back.
#include <algorithm>
#include <utility>

#include "codec/fail.hpp"
#include "formats/boxes.hpp"
#include "formats/inputs.hpp"
#include "formats/kvz/kvz.hpp"
#include "formats/kvz/kvz_appended.hpp"
#include "formats/kvz/kvz_container.hpp"
#include "formats/kvz/kvz_frames.hpp"
#include "formats/kvz/kvz_shared.hpp"
#include "formats/kvz/kvz_tables.hpp"
#include "formats/kvz/part_cache.hpp"
#include "formats/parts.hpp"

namespace kvzip {
namespace {

class PipedContainer final : public ContainerReader {
 public:
  PipedContainer(RecordStream records, KvzHeader header, unsigned minor)
      : ContainerReader(std::move(header), minor, records.name()), frames_(std::move(records), header_.plan.frames) {
    description_.results = frames_.results();
  }

  void fetch(Part& part) override {
    of_file([&] { take(part); });
  }
  const Tables& stored_tables() const override { return frames_.tables(); }
  void read(const Slice&, std::span<std::byte>) override {
    fail(ErrorCode::invalid_argument, "random access needs a file, not a pipe");
  }
  KvzSummary summary() override { fail(ErrorCode::invalid_argument, "sizes need a file, not a pipe"); }
  ReaderTraits traits() override {
    ReaderTraits out = ContainerReader::traits();
    out.once = true;
    return out;
  }

 private:
  void take(Part& part) {
    fetch_from(frames_, part);
    const PlanGroup& group = header_.plan.group(part);
    const std::pair<std::uint64_t, std::uint64_t> frames = header_.plan.frames_of(part);
    add_cost(group, frames.first, frames.second, cost_);
    for (std::uint64_t f = frames.first; f < frames.second && !earned(cost_, frames_.position()); ++f) {
      const std::uint64_t payload = part.coded[f - frames.first].size() - kRecordTailBytes;
      in_frame(f, [&] { check_earned(group, f, payload); });
    }
    require_earned(cost_, frames_.position());
    description_.results = frames_.results();
    if (!std::exchange(has_tables_, true)) use_tables(frames_.tables());
  }

  StreamedFrames frames_;
  Plan::Cost cost_;  // of the parts so far
  bool has_tables_ = false;
};

class FiledContainer final : public ContainerReader {
 public:
  FiledContainer(FileHead head, std::uint64_t cache_bytes)
      : ContainerReader(std::move(head.header), head.minor, head.records.path()),
        frames_(std::move(head.records), header_, head.end),
        cache_(cache_bytes) {
    description_.results = frames_.results();
    use_tables(frames_.tables());
    groups_of_.resize(header_.dump.tensors.size());
    for (std::size_t g = 0; g < header_.plan.groups.size(); ++g) {
      for (const PlanSlot& slot : header_.plan.groups[g].slots) groups_of_[slot.tensor].push_back(g);
    }
  }

  const Tables& stored_tables() const override { return frames_.tables(); }
  void fetch(Part& part) override {
    if (!std::exchange(checked_, true)) check_cost();
    of_file([&] { fetch_from(frames_, part); });
  }
  void check_cost() const override {
    of_file([&] { check_all(); });
  }

  void read(const Slice& slice, std::span<std::byte> out) override {
    check_slice(header_.dump, slice, out.size());
    if (out.empty()) return;
    const std::size_t unit = slice_unit(header_.dump.tensors[slice.tensor]);
    for (const std::size_t g : groups_of_.at(slice.tensor)) {
      const auto [first, last] = parts_touching(header_.plan.groups[g], header_.dump, slice);
      for (std::uint64_t p = first; p < last; ++p) {
        Part wanted = part(p);
        if (std::none_of(wanted.slices.begin(), wanted.slices.end(),
                         [&](const Slice& s) { return intersect(s, slice).has_value(); }))
          continue;
        const Part& decoded = cache_.get(std::move(wanted), [this](Part& missing) {
          fetch(missing);
          expand(missing);
        });
        for (std::size_t i = 0; i < decoded.slices.size(); ++i) {
          if (const auto common = intersect(decoded.slices[i], slice)) {
            copy_box(*common, unit, decoded.slices[i], decoded.data[i], slice, out);
          }
        }
      }
    }
  }

  KvzSummary summary() override {
    return of_file([&] { return measured(); });
  }

 private:
  void check_all() const {
    Plan::Cost all;
    for (const PlanGroup& group : header_.plan.groups) {
      add_cost(group, group.first_frame, group.first_frame + group.frames, all);
    }
    if (!earned(all, frames_.file_bytes())) refuse_unearned();
    require_earned(all, frames_.file_bytes());
  }

  KvzSummary measured() const {
    KvzSummary s = description_;
    s.file_bytes = frames_.file_bytes();
    for (std::size_t g = 0; g < s.groups.size(); ++g) {
      const PlanGroup& group = header_.plan.groups[g];
      for (std::uint64_t f = group.first_frame; f < group.first_frame + group.frames; ++f) {
        const std::uint64_t stored = frames_.at(f).stored;
        const FrameSizes sizes = Pipeline::sizes(frames_.front(f, Pipeline::kDirectoryBytes), stored);
        s.groups[g].raw_frames += sizes.raw;
        s.groups[g].frame_bytes.push_back(stored + kRecordOverhead);
        s.groups[g].coded_bytes += s.groups[g].frame_bytes.back();
        for (std::size_t l = 0; l < kStreamLabels; ++l) s.groups[g].stream_bytes[l] += sizes.bytes[l];
      }
    }
    return s;
  }

  /// A frame too short for its values is damage, which is worse than a file that asks for much.
  void refuse_unearned() const {
    for (const PlanGroup& group : header_.plan.groups) {
      for (std::uint64_t f = group.first_frame; f < group.first_frame + group.frames; ++f) {
        in_frame(f, [&] { check_earned(group, f, frames_.at(f).stored); });
      }
    }
  }

  IndexedFrames frames_;
  bool checked_ = false;
  PartCache cache_;
  std::vector<std::vector<std::size_t>> groups_of_;  // of each tensor
};

}  // namespace

InputFile kvz_input(const std::string& path, FileKind kind) {
  const Look look = [&](InputStream& in) {
    const ByteView first = in.peek(kPreludeBytes);
    Prelude prelude;
    if (first.size() < prelude.size()) {
      fail_in(in.name(), ErrorCode::truncated, "{} bytes are no container", first.size());
    }
    std::ranges::copy(first, prelude.begin());
    in_file(in.name(), [&] { check_prelude(prelude, kind, true); });
    return kUnbounded;
  };
  if (path != "-") return InputFile(path, look);
  refuse_terminal(stdin_stream());
  return InputFile::spool_stdin(look(stdin_stream()));
}

std::unique_ptr<KvzReader> open_kvz(const std::string& path) {
  const OpeningScope inputs;
  if (path == "-") {
    if (auto file = InputFile::whole_stdin()) return open_kvz(std::move(*file), "");  // whose folder nobody knows
    return open_kvz(stdin_stream());
  }
  return open_kvz(kvz_input(path));
}

std::unique_ptr<KvzReader> open_kvz(std::unique_ptr<const Source> source, std::string name) {
  return open_kvz(InputFile(std::move(source), std::move(name)));
}

std::unique_ptr<KvzReader> open_kvz(ByteView bytes, std::string name) {
  return open_kvz(InputFile(bytes, std::move(name)));
}

namespace {

std::unique_ptr<FiledContainer> open_one(InputFile file, std::uint64_t cache_bytes, bool shared = false) {
  return std::make_unique<FiledContainer>(read_head(std::move(file), shared), cache_bytes);
}

/// A container to which others may have been appended, and none of whose tokens are passed over in silence.
void require_whole(const Segments& segments, std::uint64_t size) {
  if (segments.headless) fail(ErrorCode::corrupt, "it was appended to a container that is not here");
  for (const Segment& segment : segments.all) {
    if (segment.sound) continue;
    fail(ErrorCode::corrupt,
         "the file has {} bytes, and the container at byte {} was appended to something else, or its footer is damaged "
         "('kvzip recover' reads on)",
         size, segment.begin);
  }
  if (segments.rest == Segments::Rest::nothing || segments.rest == Segments::Rest::cut) return;
  fail(
      ErrorCode::corrupt,
      "the file has {} bytes, and what stands from byte {} on is no part of it, or damaged: its first {} bytes are the "
      "container that was before",
      size, segments.end, segments.end);
}

}  // namespace

std::unique_ptr<KvzReader> open_kvz(InputFile file) {
  const std::string path = file.descriptor() >= 0 ? file.path() : std::string();  // nothing stands beside a source
  return open_kvz(std::move(file), path);
}

std::unique_ptr<KvzReader> open_kvz(InputFile file, const std::string& path, unsigned depth) {
  const Segments segments = find_segments(file);
  const bool begins = !segments.all.empty() && (segments.all.size() > 1 || segments.all[0].sound || segments.headless);
  const bool plain = segments.all.size() == 1 && segments.end == file.size() && !segments.headless;
  if (!begins || plain) {
    auto reader = open_one(std::move(file), PartCache::kBytes, !path.empty());
    if (!path.empty() && reader->lacks_tables()) reader->use_tables(tables_beside(path));
    const std::optional<KvzBase> base = reader->description().base;
    if (!base) return reader;
    return open_shared(std::move(reader), open_base(*base, path, depth));
  }
  require_whole(segments, file.size());
  const OpenSegment open = [](InputFile one, std::uint64_t cache_bytes) -> std::unique_ptr<KvzReader> {
    return open_one(std::move(one), cache_bytes);
  };
  auto reader = open_appended(std::move(file), segments, open);
  if (!path.empty()) reader->use_tables(tables_beside(path));
  return reader;
}

std::unique_ptr<KvzReader> open_kvz_own(const std::string& path) {
  return open_one(InputFile(path), PartCache::kBytes, true);
}

std::unique_ptr<KvzReader> open_kvz_segment(InputFile file) {
  return open_one(std::move(file), PartCache::kBytes);
}

std::unique_ptr<KvzReader> open_kvz(InputStream& stream, bool appended, bool shared) {
  RecordStream records(stream, appended);
  Prelude prelude;
  records.read(prelude);
  const PreludeInfo info = check_prelude(prelude, FileKind::container, shared);
  KvzHeader header = header_of(records.next(), info);
  return std::make_unique<PipedContainer>(std::move(records), std::move(header), info.minor);
}

}  // namespace kvzip
