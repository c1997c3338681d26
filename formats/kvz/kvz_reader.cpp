// SPDX-License-Identifier: Apache-2.0
// A container as a dump: from a file in any order, from a pipe front to back.
#include <algorithm>
#include <utility>

#include "codec/bytes.hpp"
#include "codec/fail.hpp"
#include "codec/limits.hpp"
#include "formats/boxes.hpp"
#include "formats/kvz/kvz.hpp"
#include "formats/kvz/kvz_frames.hpp"
#include "formats/kvz/kvz_results.hpp"
#include "formats/kvz/kvz_tables.hpp"
#include "formats/kvz/part_cache.hpp"
#include "formats/parts.hpp"
#include "kvzip/trust.hpp"

namespace kvzip {
namespace {

KvzHeader header_of(Record record, const PreludeInfo& prelude) {
  const unsigned minor = prelude.minor;
  if (!record.is(RecordType::header)) fail(ErrorCode::corrupt, "the header is missing");
  if (!record.sound()) fail(ErrorCode::corrupt, "the header's checksum does not match");
  const Bytes text = unpack_description(record.header, std::move(record.payload));
  try {
    return read_kvz_header({reinterpret_cast<const char*>(text.data()), text.size()}, prelude.features);
  } catch (const Error& e) {
    if (minor <= kKvzMinor || e.code() != ErrorCode::corrupt) throw;
    fail(ErrorCode::unsupported, "format {}.{} is newer than this build's {}.{} ({})", kKvzMajor, minor, kKvzMajor,
         kKvzMinor, e.what());
  }
}

KvzGroup describe(const PlanGroup& group, const KvzHeader& header) {
  KvzGroup d;
  for (const PlanSlot& slot : group.slots) {
    d.tensors.push_back(slot.tensor);
    if (!group.tiled) d.values += header.dump.tensors[slot.tensor].elements();
  }
  d.role = group.context.role;
  for (const TileMember& m : group.context.members) {
    d.members.push_back({m.role, m.layer, group.rows * m.heads * m.head_dim});
  }
  const TensorRole& tensor = header.recognition.tensors[group.slots[0].tensor];
  if (!group.tiled && tensor.layer && (tensor.role == Role::key || tensor.role == Role::value)) {
    d.members.push_back({tensor.role, *tensor.layer, d.values});
  }
  if (group.tiled) {
    d.layer = group.context.layer;
    d.values = group.rows * group.context.channels();
    d.rows = group.rows;
  }
  d.pipeline = header.plan.pipelines[group.pipeline].text();
  d.chunk_rows = group.chunk;
  const TensorInfo& info = header.dump.tensors[group.slots[0].tensor];
  d.source_bytes = group.tiled ? d.values * dtype_unit(info.dtype) : info.bytes();
  d.frames = group.frames;
  d.restart = group.restart;
  return d;
}

bool earned(const Plan::Cost& cost, std::uint64_t stored) {
  return limits::earned(cost.work, cost.decoded, static_cast<double>(stored));
}

void require_earned(const Plan::Cost& cost, std::uint64_t stored) {
  if (trusts_files() || earned(cost, stored)) return;
  if (cost.work > limits::kFreeWork + limits::kWorkPerByte * static_cast<double>(stored)) {
    fail(ErrorCode::limit, "{} bytes ask for {:.2g} multiplications to be decoded: more than files of kvzip do", stored,
         cost.work);
  }
  fail(ErrorCode::limit, "{} bytes would become {:.4g} GB: more than files of kvzip do", stored, cost.decoded / 1e9);
}

/// What does not depend on where frames come from.
class ContainerReader : public KvzReader {
 public:
  ContainerReader(KvzHeader header, unsigned minor) : header_(std::move(header)) {
    description_.major = kKvzMajor;
    description_.minor = minor;
    description_.writer = header_.writer;
    description_.preset = header_.preset;
    description_.user = header_.user;
    for (const PlanGroup& group : header_.plan.groups) description_.groups.push_back(describe(group, header_));
  }

  const Dump& dump() const override { return header_.dump; }
  const Recognition* recognition() const override { return &header_.recognition; }
  std::uint64_t part_count() const override { return header_.plan.parts; }
  Part part(std::uint64_t index) const override { return header_.plan.part(header_.dump, index); }
  void expand(Part& part) const override { decode(part); }
  const KvzSummary& description() const override { return description_; }
  void use_tables(const Tables& tables) override { use_tables_to_read(header_.plan, tables); }
  /// True when a pipeline names a table that it has not been given.
  bool lacks_tables() const {
    const auto lacks = [](const Pipeline& p) {
      const auto references = p.lacking_tables();
      return std::any_of(references.begin(), references.end(), [](const std::string& r) { return !r.empty(); });
    };
    return std::any_of(header_.plan.pipelines.begin(), header_.plan.pipelines.end(), lacks);
  }

  ReaderTraits traits() override {
    ReaderTraits out;
    out.container = this;
    for (const PlanGroup& group : header_.plan.groups) {
      if (group.tiled) out.chunk_tokens = std::max(out.chunk_tokens, group.chunk * group.frames_of_part());
    }
    if (description_.results) out.max_error = description_.results->max_error;
    return out;
  }

 protected:
  /// From a fetched part's `coded` to its data. Any thread.
  void decode(Part& part) const {
    const Plan& plan = header_.plan;
    const PlanGroup& group = plan.group(part);
    const auto [first, last] = plan.frames_of(part);
    if (part.coded.size() != last - first) fail(ErrorCode::invalid_argument, "part {} was not fetched", part.index);
    // All of them have earned their memory before any is taken.
    for (std::uint64_t f = first; f < last; ++f) {
      const Bytes& coded = part.coded[f - first];
      in_frame(f, [&] { check_frame(group, f, coded); });
    }
    const TileShape all = plan.shape(header_.dump, part);
    const std::size_t row_bytes = all.cols * dtype_unit(group.context.source);
    Buffer<std::byte> tile(all.rows * row_bytes);
    Chain chain = plan.pipelines[group.pipeline].begin_chain();
    std::span<std::byte> rest(tile);
    for (std::uint64_t f = first; f < last; ++f) {
      const TileShape shape = plan.shape(header_.dump, group, f);
      const std::span<std::byte> elements = rest.first(shape.rows * row_bytes);
      const Bytes& coded = part.coded[f - first];
      in_frame(
          f, [&] { plan.pipelines[group.pipeline].decode(group.context, shape, payload_of(coded), elements, &chain); });
      rest = rest.subspan(elements.size());
    }
    scatter_tile(plan, header_.dump, tile, part);
    part.coded.clear();
    part.coded.shrink_to_fit();
  }

  /// Of frames `first` to `last` - 1.
  void add_cost(const PlanGroup& group, std::uint64_t first, std::uint64_t last, Plan::Cost& sum) const {
    if (first == last) return;
    in_frame(first, [&] {
      const Plan::Cost cost = header_.plan.cost(header_.dump, group, first, last);
      sum.work += cost.work;
      sum.decoded += cost.decoded;
    });
  }

  void check_earned(const PlanGroup& group, std::uint64_t frame, std::uint64_t payload) const {
    const TileShape shape = header_.plan.shape(header_.dump, group, frame);
    if (payload < limits::least_payload(std::uint64_t{shape.rows} * shape.cols)) {
      fail(ErrorCode::corrupt, "{} bytes are too few for its values", payload);
    }
  }

  /// Errors name the frame.
  template <typename F>
  void in_frame(std::uint64_t frame, F&& step) const {
    try {
      step();
    } catch (Error& e) {
      // What a stage refuses to decode it would have refused to encode.
      if (e.code() == ErrorCode::invalid_argument) e.set_code(ErrorCode::corrupt);
      e.add_where(frame_name(header_, frame));
      throw;
    }
  }

  /// Reads the frames of a part.
  template <typename Frames>
  void fetch_from(Frames& frames, Part& part) const {
    const auto [first, last] = header_.plan.frames_of(part);
    part.coded.clear();
    for (std::uint64_t f = first; f < last; ++f) part.coded.push_back(frames.fetch(f));
  }

  KvzHeader header_;
  KvzSummary description_;

 private:
  static ByteView payload_of(ByteView coded) { return coded.first(coded.size() - kRecordTailBytes); }

  void check_frame(const PlanGroup& group, std::uint64_t frame, ByteView coded) const {
    if (coded.size() < kRecordTailBytes) fail(ErrorCode::truncated, "{} bytes", coded.size());
    const ByteView payload = payload_of(coded);
    if (hash64(payload) != ByteReader(coded.last(kRecordTailBytes)).get<std::uint64_t>()) {
      fail(ErrorCode::corrupt, "its checksum does not match");
    }
    check_earned(group, frame, payload.size());
  }
};

class PipedContainer final : public ContainerReader {
 public:
  PipedContainer(RecordStream records, KvzHeader header, unsigned minor)
      : ContainerReader(std::move(header), minor), frames_(std::move(records), header_.plan.frames) {
    description_.results = frames_.results();
  }

  void fetch(Part& part) override {
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
  StreamedFrames frames_;
  Plan::Cost cost_;  // of the parts so far
  bool has_tables_ = false;
};

class FiledContainer final : public ContainerReader {
 public:
  FiledContainer(RecordFile records, KvzHeader header, unsigned minor, std::uint64_t after_header)
      : ContainerReader(std::move(header), minor), frames_(std::move(records), header_, after_header) {
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
    fetch_from(frames_, part);
  }
  void check_cost() const override {
    Plan::Cost all;
    for (const PlanGroup& group : header_.plan.groups) {
      add_cost(group, group.first_frame, group.first_frame + group.frames, all);
    }
    if (!earned(all, frames_.file_bytes())) refuse_unearned();
    require_earned(all, frames_.file_bytes());
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
          decode(missing);
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

 private:
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

std::unique_ptr<KvzReader> open_kvz(const std::string& path) {
  if (path == "-") return open_kvz(stdin_stream());
  return open_kvz(InputFile(path));
}

std::unique_ptr<KvzReader> open_kvz(std::unique_ptr<const Source> source, std::string name) {
  return open_kvz(InputFile(std::move(source), std::move(name)));
}

std::unique_ptr<KvzReader> open_kvz(ByteView bytes, std::string name) {
  return open_kvz(InputFile(bytes, std::move(name)));
}

std::unique_ptr<KvzReader> open_kvz(InputFile file) {
  const std::string path = file.descriptor() >= 0 ? file.path() : std::string();  // nothing stands beside a source
  RecordFile records{std::move(file)};
  Prelude prelude;
  records.read_at(0, prelude);
  const PreludeInfo info = check_prelude(prelude);
  Record record = records.record_at(kPreludeBytes, 0);
  const std::uint64_t after_header = kPreludeBytes + kRecordOverhead + record.header.stored;
  auto reader = std::make_unique<FiledContainer>(std::move(records), header_of(std::move(record), info), info.minor,
                                                 after_header);
  if (!path.empty() && reader->lacks_tables()) reader->use_tables(tables_beside(path));
  return reader;
}

std::unique_ptr<KvzReader> open_kvz(InputStream& stream) {
  RecordStream records(stream);
  Prelude prelude;
  records.read(prelude);
  const PreludeInfo info = check_prelude(prelude);
  KvzHeader header = header_of(records.next(), info);
  return std::make_unique<PipedContainer>(std::move(records), std::move(header), info.minor);
}

}  // namespace kvzip
