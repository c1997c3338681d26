// SPDX-License-Identifier: Apache-2.0
// Writes a container front to back, without seeking: prelude, header, frames in plan order, index, end, footer.
#include <charconv>
#include <cstring>
#include <map>
#include <mutex>

#include "codec/bytes.hpp"
#include "codec/fail.hpp"
#include "formats/file.hpp"
#include "formats/kvz/kvz.hpp"
#include "formats/kvz/kvz_header.hpp"
#include "formats/kvz/kvz_records.hpp"
#include "formats/kvz/kvz_results.hpp"
#include "formats/kvz/kvz_tables.hpp"

namespace kvzip {
namespace {

/// The least minor version that has all of the file.
unsigned needed_minor(const KvzHeader& header, const Tables& tables) {
  std::string_view since = tables.empty() ? "1.0" : "1.1";
  for (const Pipeline& pipeline : header.plan.pipelines) since = later_version(since, pipeline.since());
  unsigned minor = 0;
  const std::string_view digits = since.substr(since.find('.') + 1);
  std::from_chars(digits.data(), digits.data() + digits.size(), minor);
  return minor;
}

class KvzWriter final : public DumpWriter {
 public:
  KvzWriter(const std::string& path, KvzHeader header, std::optional<KvzResults> results, const Tables& tables,
            bool overwrite)
      : header_(std::move(header)),
        results_(std::move(results)),
        out_(path, overwrite, OutputFile::Access::sequential) {
    out_.append(make_prelude(needed_minor(header_, tables)));
    const std::string text = write_kvz_header(header_);
    const Packed packed = pack_description(std::as_bytes(std::span(text)));
    append_record(RecordType::header, packed.flags, packed.stored, text.size());
    for (const auto& table : tables.all()) {
      const Bytes payload = table_payload(*table);
      const Packed stored = pack_description(payload);
      append_record(RecordType::table, stored.flags, stored.stored, payload.size());
    }
  }

  bool plans() const override { return true; }
  std::uint64_t part_count() const override { return header_.plan.frames; }
  Part part(std::uint64_t index) const override { return header_.plan.part(header_.dump, index); }

  void prepare(Part& part) const override {
    const PlanGroup& group = header_.plan.group_of(part.index);
    const Buffer<std::byte> tile = gather_tile(header_.plan, header_.dump, part);
    const TileShape shape = header_.plan.shape(header_.dump, part.index);
    const Pipeline& pipeline = header_.plan.pipelines[group.pipeline];
    part.coded = pipeline.encode(group.context, shape, tile);
    if (results_ && group.tiled && group.context.role != Role::query) check(part, group, shape, pipeline, tile);
  }

  void append(Part& part) override {
    if (part.index != frames_) fail(ErrorCode::invalid_argument, "frame {} appended as frame {}", part.index, frames_);
    index_.put_varint(out_.position() - index_end_);
    index_.put_varint(part.coded.size());
    append_record(RecordType::frame, 0, part.coded, part.coded.size());
    index_end_ = out_.position();
    ++frames_;
    merge_errors(part.index);
  }

  void finish() override {
    if (frames_ != header_.plan.frames)
      fail(ErrorCode::invalid_argument, "{} of {} frames written", frames_, header_.plan.frames);
    if (results_) append_results();
    FooterInfo footer{out_.position(), 0};
    const Packed packed = pack_description(index_.view());
    append_record(RecordType::index, packed.flags, packed.stored, index_.size());
    ByteWriter end;
    end.put(std::uint64_t{sequence_} + 1);
    end.put(frames_);
    end.put(hash64(hashes_.view()));
    append_record(RecordType::end, 0, end.view(), end.size());
    footer.file_bytes = out_.position() + kFooterBytes;
    out_.append(make_footer(footer));
    out_.finish();
  }

 private:
  /// Decodes what was just encoded, and puts the elements themselves in its place where the bound does not hold.
  void check(Part& part, const PlanGroup& group, TileShape shape, const Pipeline& pipeline, ByteView tile) const {
    const DType dtype = group.context.source;
    Buffer<std::byte> decoded(tile.size());
    pipeline.decode(group.context, shape, part.coded, decoded);
    if (results_->max_error) {
      const auto difference = largest_difference(dtype, tile, dtype, decoded);
      if (!difference || *difference > *results_->max_error) {
        part.coded = Pipeline::raw(tile);
        std::memcpy(decoded.data(), tile.data(), tile.size());
      }
    }
    const KeyValueErrors errors = tile_errors(group.context, shape, tile, decoded);
    const std::lock_guard lock(mutex_);
    pending_.emplace(part.index, errors);
  }

  /// In the order of the frames, so that the sums do not depend on threads.
  void merge_errors(std::uint64_t frame) {
    const std::lock_guard lock(mutex_);
    const auto found = pending_.find(frame);
    if (found == pending_.end()) return;
    for (std::size_t side = 0; side < errors_.size(); ++side) errors_[side].merge(found->second[side]);
    pending_.erase(found);
  }

  void append_results() {
    for (std::size_t side = 0; side < errors_.size(); ++side) {
      const Distortion& d = errors_[side];
      if (d.values() == 0) continue;
      results_->errors.push_back({side == 0 ? Role::key : Role::value, d.values(), d.max_abs(), d.rmse(), d.nrmse()});
    }
    const std::string text = write_kvz_results(*results_);
    append_record(RecordType::results, 0, std::as_bytes(std::span(text)), text.size());
  }

  void append_record(RecordType type, std::uint16_t flags, ByteView payload, std::uint64_t decoded) {
    out_.append(make_record_header({static_cast<std::uint16_t>(type), flags, payload.size(), decoded, sequence_++}));
    out_.append(payload);
    const std::uint64_t hash = hash64(payload);
    hashes_.put(hash);
    ByteWriter tail;
    tail.put(hash);
    out_.append(tail.view());
  }

  KvzHeader header_;
  std::optional<KvzResults> results_;
  mutable std::mutex mutex_;
  mutable std::map<std::uint64_t, KeyValueErrors> pending_;  // of frames that are encoded and not yet written
  KeyValueErrors errors_;
  OutputFile out_;
  ByteWriter index_, hashes_;
  std::uint64_t index_end_ = 0, frames_ = 0;
  std::uint32_t sequence_ = 0;
};

}  // namespace

std::unique_ptr<DumpWriter> create_kvz_writer(const std::string& path, const Dump& dump, const Recognition& recognition,
                                              const KvzOptions& options, bool overwrite) {
  KvzHeader header{"kvzip " KVZIP_VERSION,
                   options.rules.name,
                   options.user,
                   dump,
                   recognition,
                   make_plan(dump, recognition, options.rules, options.chunk_tokens, &options.tables)};
  return std::make_unique<KvzWriter>(path, std::move(header), options.results, options.tables.stored, overwrite);
}

}  // namespace kvzip
