// SPDX-License-Identifier: Apache-2.0
// Reads a container: from a file by its index, from a pipe front to back.
#include <algorithm>
#include <list>
#include <utility>

#include "codec/bytes.hpp"
#include "codec/fail.hpp"
#include "codec/limits.hpp"
#include "formats/boxes.hpp"
#include "formats/kvz/kvz.hpp"
#include "formats/kvz/kvz_header.hpp"
#include "formats/kvz/kvz_records.hpp"
#include "formats/kvz/kvz_results.hpp"
#include "formats/kvz/kvz_source.hpp"
#include "formats/kvz/kvz_tables.hpp"
#include "formats/parts.hpp"

namespace kvzip {
namespace {

class KvzReaderImpl final : public KvzReader {
 public:
  explicit KvzReaderImpl(RecordSource source) : source_(std::move(source)) {
    Prelude prelude;
    source_.read(prelude);
    description_.major = kKvzMajor;
    description_.minor = check_prelude(prelude);
    const Record record = next_record();
    if (record.header.type != static_cast<std::uint16_t>(RecordType::header))
      fail(ErrorCode::corrupt, "the header is missing");
    if (!record.sound()) fail(ErrorCode::corrupt, "the header's checksum does not match");
    const Bytes text = unpack_description(record.header, record.payload);
    header_ = read_header(as_text(text));
    describe();
    if (source_.seekable()) {
      load_index();
    } else if (header_.plan.frames == 0) {
      read_ending();
    }
  }

  const Dump& dump() const override { return header_.dump; }
  const Recognition* recognition() const override { return &header_.recognition; }
  std::uint64_t part_count() const override { return header_.plan.frames; }
  Part part(std::uint64_t index) const override { return header_.plan.part(header_.dump, index); }

  void fetch(Part& part) override {
    if (source_.seekable()) {
      part.coded = with_hash(record_at(part.index));
      return;
    }
    while (next_frame_ <= part.index) {
      Record record = next_known_record(false);
      if (record.header.type != static_cast<std::uint16_t>(RecordType::frame)) {
        fail(ErrorCode::truncated, "frame {} is missing", next_frame_);
      }
      const std::uint64_t bytes = kRecordHeaderBytes + record.header.stored + kRecordTailBytes;
      walked_.push_back({source_.position() - bytes, record.header.stored});
      if (next_frame_++ == part.index) part.coded = with_hash(std::move(record));
    }
    if (next_frame_ == header_.plan.frames) read_ending();
  }

  void expand(Part& part) const override {
    if (part.coded.size() < kRecordTailBytes) fail(ErrorCode::truncated, "a frame of {} bytes", part.coded.size());
    const ByteView payload = ByteView(part.coded).first(part.coded.size() - kRecordTailBytes);
    try {
      if (hash64(payload) != ByteReader(ByteView(part.coded).last(kRecordTailBytes)).get<std::uint64_t>()) {
        fail(ErrorCode::corrupt, "its checksum does not match");
      }
      const Plan& plan = header_.plan;
      const PlanGroup& group = plan.group_of(part.index);
      const TileShape shape = plan.shape(header_.dump, part.index);
      if (payload.size() < limits::least_payload(std::uint64_t{shape.rows} * shape.cols))
        fail(ErrorCode::corrupt, "{} bytes are too few for its values", payload.size());
      Buffer<std::byte> tile(std::size_t{shape.rows} * shape.cols * dtype_unit(group.context.source));
      plan.pipelines[group.pipeline].decode(group.context, shape, payload, tile);
      scatter_tile(plan, header_.dump, tile, part);
    } catch (const Error& e) {
      // What a stage refuses to decode it would have refused to encode.
      const bool refused = e.code() == ErrorCode::invalid_argument;
      throw Error(refused ? ErrorCode::corrupt : e.code(), fmt::format("{}: {}", place(part.index), e.what()));
    }
    part.coded.clear();
    part.coded.shrink_to_fit();
  }

  void read(const Slice& slice, std::span<std::byte> out) override {
    if (!source_.seekable()) fail(ErrorCode::invalid_argument, "random access needs a file, not a pipe");
    check_slice(header_.dump, slice, out.size());
    if (out.empty()) return;
    const std::size_t unit = slice_unit(header_.dump.tensors[slice.tensor]);
    for (const std::size_t g : groups_of_.at(slice.tensor)) {
      const PlanGroup& group = header_.plan.groups[g];
      const auto [first, last] = frames_touching(group, header_.dump, slice);
      for (std::uint64_t f = first; f < last; ++f) {
        Part empty = part(f);
        if (std::none_of(empty.slices.begin(), empty.slices.end(),
                         [&](const Slice& s) { return intersect(s, slice).has_value(); }))
          continue;
        const Part& decoded = cached(std::move(empty));
        for (std::size_t i = 0; i < decoded.slices.size(); ++i) {
          if (const auto common = intersect(decoded.slices[i], slice)) {
            copy_box(*common, unit, decoded.slices[i], decoded.data[i], slice, out);
          }
        }
      }
    }
  }

  const KvzSummary& description() const override { return description_; }

  void use_tables(const Tables& tables) override { use_tables_to_read(header_.plan, {}, tables); }
  /// True when a pipeline names a table that it has not been given.
  bool lacks_tables() const {
    const auto lacks = [](const Pipeline& p) {
      const auto references = p.lacking_tables();
      return std::any_of(references.begin(), references.end(), [](const std::string& r) { return !r.empty(); });
    };
    return std::any_of(header_.plan.pipelines.begin(), header_.plan.pipelines.end(), lacks);
  }

  KvzSummary summary() override {
    if (!source_.seekable()) fail(ErrorCode::invalid_argument, "sizes need a file, not a pipe");
    KvzSummary s = description_;
    s.file_bytes = source_.file().size();
    for (std::size_t g = 0; g < s.groups.size(); ++g) {
      const PlanGroup& group = header_.plan.groups[g];
      for (std::uint64_t f = group.first_frame; f < group.first_frame + group.frames; ++f) {
        const FrameAt at = index_[f];
        Bytes front(std::min<std::uint64_t>(at.stored, Pipeline::kDirectoryBytes));
        source_.file().read_at(at.offset + kRecordHeaderBytes, front);
        const FrameSizes sizes = Pipeline::sizes(front, at.stored);
        s.groups[g].raw_frames += sizes.raw;
        s.groups[g].frame_bytes.push_back(at.stored + kRecordHeaderBytes + kRecordTailBytes);
        s.groups[g].coded_bytes += s.groups[g].frame_bytes.back();
        for (std::size_t l = 0; l < kStreamLabels; ++l) s.groups[g].stream_bytes[l] += sizes.bytes[l];
      }
    }
    return s;
  }

  /// "layers.3.key, tokens 256-511"
  std::string place(std::uint64_t frame) const {
    const PlanGroup& group = header_.plan.group_of(frame);
    const std::string& name = header_.dump.tensors[group.slots[0].tensor].name;
    const std::uint64_t first = (frame - group.first_frame) * group.chunk;
    if (!group.tiled) return fmt::format("{}, frame {}", name, frame);
    return fmt::format("{}, tokens {}-{}", name, first, std::min(first + group.chunk, group.rows) - 1);
  }

  /// What follows the last frame of a stream: index, end, footer, nothing.
  void read_ending() {
    Record record = next_known_record(true);
    if (record.header.type != static_cast<std::uint16_t>(RecordType::index) || !record.sound())
      fail(ErrorCode::corrupt, "the index is damaged");
    const std::uint64_t index_bytes = kRecordHeaderBytes + record.header.stored + kRecordTailBytes;
    const std::uint64_t index_offset = source_.position() - index_bytes;
    parse_index(unpack_description(record.header, std::move(record.payload)), index_offset);
    if (index_ != walked_) fail(ErrorCode::corrupt, "the index does not point to the frames");
    record = next_known_record(false);
    const std::uint64_t before = hash64(hashes_.view().first(hashes_.size() - sizeof record.hash));
    if (record.header.type != static_cast<std::uint16_t>(RecordType::end) || !record.sound())
      fail(ErrorCode::corrupt, "the end record is damaged");
    ByteReader in(record.payload);
    const auto records = in.get<std::uint64_t>(), frames = in.get<std::uint64_t>(), hash = in.get<std::uint64_t>();
    if (records != sequence_ || frames != header_.plan.frames || hash != before) {
      fail(ErrorCode::corrupt, "the whole-file checksum does not match");
    }
    Footer footer;
    source_.read(footer);
    const FooterInfo info = parse_footer(footer);
    if (info.file_bytes != source_.position() || info.index_offset != index_offset)
      fail(ErrorCode::corrupt, "the footer does not match");
    source_.expect_end();
  }

 private:
  struct FrameAt {
    std::uint64_t offset, stored;
    bool operator==(const FrameAt&) const = default;
  };

  KvzHeader read_header(std::string_view text) const {
    try {
      return read_kvz_header(text);
    } catch (const Error& e) {
      if (description_.minor <= kKvzMinor || e.code() != ErrorCode::corrupt) throw;
      fail(ErrorCode::unsupported, "format {}.{} is newer than this build's {}.{} ({})", kKvzMajor, description_.minor,
           kKvzMajor, kKvzMinor, e.what());
    }
  }

  static std::string_view as_text(const Bytes& bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }

  static Bytes with_hash(Record record) {
    ByteWriter tail;
    tail.put(record.hash);
    record.payload.insert(record.payload.end(), tail.view().begin(), tail.view().end());
    return std::move(record.payload);
  }

  Record read_record_here() { return read_record(source_, std::nullopt); }
  Record next_record() {
    Record record = read_record(source_, sequence_++);
    hashes_.put(record.hash);
    return record;
  }
  /// Skips ancillary records, but for the results, which it takes; takes the tables before the first frame.
  Record next_known_record(bool results_may_stand_here) {
    for (;;) {
      Record record = next_record();
      if (record.header.type == static_cast<std::uint16_t>(RecordType::table) && tables_may_stand_here_) {
        add_table(record);
        continue;
      }
      if (record.header.type < kAncillary) {
        if (std::exchange(tables_may_stand_here_, false)) use_tables_to_read(header_.plan, own_, {});
        return record;
      }
      if (record.header.type == static_cast<std::uint16_t>(RecordType::results)) {
        check_place_of_results(results_may_stand_here);
        take_results(record);
      } else if (!record.sound()) {
        fail(ErrorCode::corrupt, "a record's checksum does not match");
      }
    }
  }

  /// They say what all frames came to, so they follow the last one; two could contradict each other.
  void check_place_of_results(bool may_stand_here) {
    if (!may_stand_here) fail(ErrorCode::corrupt, "the results do not stand between the last frame and the index");
    if (std::exchange(has_results_, true)) fail(ErrorCode::corrupt, "there are results twice");
  }
  void add_table(const Record& record) {
    if (!record.sound()) fail(ErrorCode::corrupt, "a table's checksum does not match");
    take_table(unpack_description(record.header, record.payload), own_);
  }
  void take_results(const Record& record) {
    if (!record.sound()) fail(ErrorCode::corrupt, "the checksum of the results does not match");
    description_.results = read_kvz_results(as_text(record.payload));
  }

  Record record_at(std::uint64_t frame) {
    source_.seek(index_.at(frame).offset);
    Record record = read_record_here();
    if (record.header.type != static_cast<std::uint16_t>(RecordType::frame) ||
        record.header.stored != index_[frame].stored) {
      fail(ErrorCode::corrupt, "{}: the index does not point to it", place(frame));
    }
    return record;
  }

  void describe() {
    description_.writer = header_.writer;
    description_.preset = header_.preset;
    description_.user = header_.user;
    groups_of_.resize(header_.dump.tensors.size());
    for (std::size_t g = 0; g < header_.plan.groups.size(); ++g) {
      const PlanGroup& group = header_.plan.groups[g];
      KvzGroup d;
      for (const PlanSlot& slot : group.slots) {
        d.tensors.push_back(slot.tensor);
        groups_of_[slot.tensor].push_back(g);
        if (!group.tiled) d.values += header_.dump.tensors[slot.tensor].elements();
      }
      d.role = group.context.role;
      if (group.tiled) {
        d.layer = group.context.layer;
        d.values = group.rows * group.context.channels();
        d.rows = group.rows;
      }
      d.pipeline = header_.plan.pipelines[group.pipeline].text();
      d.chunk_rows = group.chunk;
      const TensorInfo& info = header_.dump.tensors[group.slots[0].tensor];
      d.source_bytes = group.tiled ? d.values * dtype_unit(info.dtype) : info.bytes();
      d.frames = group.frames;
      description_.groups.push_back(std::move(d));
    }
  }

  void load_index() {
    const std::uint64_t size = source_.file().size();
    after_header_ = source_.position();
    if (size < after_header_ + kFooterBytes) fail(ErrorCode::truncated, "the file ends too early");
    Footer bytes;
    source_.file().read_at(size - kFooterBytes, bytes);
    const FooterInfo footer = parse_footer(bytes);
    if (footer.file_bytes != size) {
      fail(ErrorCode::corrupt, "the file has {} bytes and says {}: it was cut or something was put before it", size,
           footer.file_bytes);
    }
    if (footer.index_offset < after_header_ || footer.index_offset > size - kFooterBytes)
      fail(ErrorCode::corrupt, "the index lies outside the file");
    source_.seek(footer.index_offset);
    const Record record = read_record_here();
    if (record.header.type != static_cast<std::uint16_t>(RecordType::index) || !record.sound())
      fail(ErrorCode::corrupt, "the index is damaged");
    const std::uint64_t after_index = source_.position();
    parse_index(unpack_description(record.header, record.payload), footer.index_offset);
    std::uint64_t at = after_header_;
    for (const FrameAt& frame : index_) {
      check_between(at, frame.offset, at == after_header_ ? Between::header_and_frames : Between::frames);
      at = frame.offset + kRecordHeaderBytes + frame.stored + kRecordTailBytes;
    }
    check_between(at, footer.index_offset, Between::frames_and_index);
    check_between(after_index, size - kFooterBytes, Between::index_and_footer);
    load_results();
    for (const std::uint64_t offset : tables_at_) {
      source_.seek(offset);
      add_table(read_record_here());
    }
    if (!own_.empty()) use_tables_to_read(header_.plan, own_, {});
  }

  void load_results() {
    if (!has_results_) return;
    source_.seek(results_at_);
    take_results(read_record_here());
  }

  enum class Between { header_and_frames, frames, frames_and_index, index_and_footer };

  /// What stands between two places that the index names: records that may be skipped, and the end record at the end.
  void check_between(std::uint64_t at, std::uint64_t to, Between between) {
    while (at < to) {
      RecordHeaderBytes bytes;
      source_.seek(at);
      source_.read(bytes);
      const RecordHeader h = parse_record_header(bytes, std::nullopt);
      constexpr std::uint64_t kOverhead = kRecordHeaderBytes + kRecordTailBytes;
      if (to - at < kOverhead || h.stored > to - at - kOverhead) fail(ErrorCode::corrupt, "records overlap");
      if (h.type == static_cast<std::uint16_t>(RecordType::results)) {
        check_place_of_results(between == Between::frames_and_index);
        results_at_ = at;
      }
      const bool before_frames =
          between == Between::header_and_frames || (between == Between::frames_and_index && index_.empty());
      const bool table = h.type == static_cast<std::uint16_t>(RecordType::table) && before_frames;
      if (table) tables_at_.push_back(at);
      at += kOverhead + h.stored;
      const bool end = h.type == static_cast<std::uint16_t>(RecordType::end);
      if (h.type < kAncillary && !table && !(end && between == Between::index_and_footer && at == to)) {
        fail(ErrorCode::corrupt, "the index does not name a record of type {}", h.type);
      }
    }
    if (at != to) fail(ErrorCode::corrupt, "the index does not point to a record");
  }

  /// Per frame: bytes between the end of the record before (0 for the first) and this record, and its stored length.
  void parse_index(const Bytes& bytes, std::uint64_t end) {
    ByteReader in(bytes);
    if (header_.plan.frames > bytes.size() / 2) fail(ErrorCode::corrupt, "the index has too few entries");
    std::uint64_t at = 0;
    for (std::uint64_t f = 0; f < header_.plan.frames; ++f) {
      const std::uint64_t gap = in.get_varint(), stored = in.get_varint();
      const std::uint64_t overhead = kRecordHeaderBytes + kRecordTailBytes;
      if (gap > end - at || end - at - gap < overhead || stored > end - at - gap - overhead) {
        fail(ErrorCode::corrupt, "the index points outside the file");
      }
      index_.push_back({at + gap, stored});
      at += gap + stored + overhead;
    }
    in.expect_end();
  }

  /// Decoded frames are kept for neighbouring requests, up to kCacheBytes.
  const Part& cached(Part wanted) {
    const auto found =
        std::find_if(cache_.begin(), cache_.end(), [&](const Part& p) { return p.index == wanted.index; });
    if (found != cache_.end()) {
      cache_.splice(cache_.begin(), cache_, found);
      return cache_.front();
    }
    fetch(wanted);
    expand(wanted);
    for (const Bytes& b : wanted.data) cache_bytes_ += b.size();
    cache_.push_front(std::move(wanted));
    while (cache_bytes_ > kCacheBytes && cache_.size() > 1) {
      for (const Bytes& b : cache_.back().data) cache_bytes_ -= b.size();
      cache_.pop_back();
    }
    return cache_.front();
  }
  static constexpr std::uint64_t kCacheBytes = std::uint64_t{64} << 20;

  RecordSource source_;
  KvzHeader header_;
  KvzSummary description_;
  std::vector<std::vector<std::size_t>> groups_of_;
  std::vector<FrameAt> index_;
  std::vector<FrameAt> walked_;  // pipes: the frames as they came
  std::uint32_t sequence_ = 0;
  std::uint64_t next_frame_ = 0, after_header_ = 0;
  bool has_results_ = false;
  std::uint64_t results_at_ = 0;
  std::vector<std::uint64_t> tables_at_;
  Tables own_;
  bool tables_may_stand_here_ = true;  // of a pipe: before the first frame
  ByteWriter hashes_;
  std::list<Part> cache_;
  std::uint64_t cache_bytes_ = 0;
};

}  // namespace

std::unique_ptr<KvzReader> open_kvz(const std::string& path) {
  if (path == "-") return open_kvz(stdin_stream());
  auto reader = std::make_unique<KvzReaderImpl>(RecordSource(InputFile(path)));
  if (reader->lacks_tables()) reader->use_tables(tables_beside(path));
  return reader;
}

std::unique_ptr<KvzReader> open_kvz(InputStream& stream) {
  return std::make_unique<KvzReaderImpl>(RecordSource(stream));
}

}  // namespace kvzip
