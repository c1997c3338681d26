// SPDX-License-Identifier: Apache-2.0
#include "formats/kvz/kvz_salvage.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include "codec/bytes.hpp"
#include "codec/fail.hpp"
#include "codec/limits.hpp"
#include "formats/kvz/kvz_container.hpp"
#include "formats/kvz/kvz_ending.hpp"
#include "formats/kvz/kvz_holes.hpp"
#include "formats/kvz/kvz_scan.hpp"
#include "formats/kvz/kvz_tables.hpp"
#include "kvzip/trust.hpp"

namespace kvzip {
namespace {

/// What fetch() leaves for expand(): where the record of each frame stands or should stand.
using FramePlaces = std::vector<std::pair<std::uint64_t, bool>>;  // and whether it is there

/// All elements NaN, or 0 where the type has none.
void fill_hole(DType dtype, std::span<std::byte> elements) {
  std::fill(elements.begin(), elements.end(), std::byte{0});
  if (!is_codable_float(dtype)) return;
  const std::size_t unit = dtype_unit(dtype);
  std::array<std::byte, 8> nan{};
  const float value = std::numeric_limits<float>::quiet_NaN();
  from_float(dtype, {&value, 1}, std::span(nan).first(unit));
  for (std::size_t i = 0; i < elements.size(); i += unit) std::copy_n(nan.begin(), unit, elements.subspan(i).begin());
}

class Salvaged final : public SalvageReader {
 public:
  /// `scan` stands behind the header, whose stored hash is given.
  Salvaged(RecordScan scan, KvzHeader header, std::uint64_t header_hash, std::optional<std::vector<FrameAt>> places,
           bool keeps_frames, std::uint64_t file_bytes)
      : SalvageReader(std::move(header), kKvzMinor),
        scan_(std::move(scan)),
        places_(std::move(places)),
        keeps_frames_(keeps_frames),
        file_bytes_(file_bytes),
        holes_(header_),
        ending_(header_hash) {
    if (places_ && places_->size() != header_.plan.frames) places_.reset();
    scan_.accept([this](const RecordHeader& h, std::uint64_t offset) { return may_be(h, offset); });
    advance();
  }

  const Tables& stored_tables() const override { return tables_; }
  KvzSummary summary() override { return description_; }
  void read(const Slice&, std::span<std::byte>) override {
    fail(ErrorCode::invalid_argument, "what survives of a container is read front to back");
  }
  ReaderTraits traits() override {
    ReaderTraits traits;
    traits.once = true;
    return traits;
  }

  void fetch(Part& part) override {
    if (!std::exchange(has_tables_, true)) {
      if (file_bytes_ != 0) check_all_earned();
      find_first();
    }
    const auto [first, last] = header_.plan.frames_of(part);
    part.coded.clear();
    FramePlaces at;
    for (std::uint64_t f = first; f < last; ++f) {
      while (found_ && found_frame_ < f) advance();
      const bool here = found_ && found_frame_ == f;
      at.emplace_back(here ? found_->offset : found_ ? found_->after : scan_.after(), here);
      if (!here && places_) at.back().first = places_->at(f).offset;
      part.coded.push_back(here ? with_hash(std::move(found_->record)) : Bytes());
      if (!here && ++lost_frames_ > limits::kFreeLostFrames + limits::kLostFramesPerByte * scan_.position() &&
          !trusts_files()) {
        fail(ErrorCode::limit, "{} frames are missing from {} bytes", lost_frames_, scan_.position());
      }
      if (here) advance();
    }
    add_cost(header_.plan.group(part), first, last, cost_);
    require_earned(cost_, scan_.position());
    part.result = std::move(at);
  }

  void expand(Part& part) const override {
    const FramePlaces places = std::any_cast<FramePlaces>(std::move(part.result));
    const Plan& plan = header_.plan;
    const PlanGroup& group = plan.group(part);
    const auto [first, last] = plan.frames_of(part);
    const TileShape all = plan.shape(header_.dump, part);
    const std::size_t row_bytes = all.cols * dtype_unit(group.context.source);
    Buffer<std::byte> tile(all.rows * row_bytes);
    std::span<std::byte> rest(tile);
    Chain chain = plan.pipelines[group.pipeline].begin_chain();
    std::optional<BrokenFrames> broken;
    for (std::uint64_t f = first; f < last; ++f) {
      const std::span<std::byte> elements = rest.first(plan.shape(header_.dump, group, f).rows * row_bytes);
      Bytes& coded = part.coded[f - first];
      if (!broken) broken = try_frame(group, f, coded, places[f - first], elements, chain);
      if (broken) {
        fill_hole(group.context.source, elements);
        broken->last = f + 1;
        if (keeps_frames_) coded = Pipeline::raw(elements);
      } else if (keeps_frames_) {
        coded.resize(coded.size() - kRecordTailBytes);
      }
      rest = rest.subspan(elements.size());
    }
    scatter_tile(plan, header_.dump, tile, part);
    if (!keeps_frames_) part.coded.clear();
    part.result = std::move(broken);
  }

  void note(const Part& part) override {
    const auto& broken = std::any_cast<const std::optional<BrokenFrames>&>(part.result);
    if (!broken) return;
    holes_.add(*broken);
    if (broken->unsupported && unsupported_.empty()) {
      unsupported_ = frame_name(header_, broken->first) + ": " + broken->why;
    }
  }

  void add_fault(std::string fault) { ending_.add_fault(std::move(fault)); }

  KvzDamage damage() override {
    if (!std::exchange(has_tables_, true)) find_first();
    while (found_) advance();
    // In a sound file that is no damage: this build cannot tell. In others the table may be what was damaged.
    if (!unsupported_.empty() && !damaged_) fail(ErrorCode::unsupported, "{}", unsupported_);
    if (!places_) ending_.check_numbers(header_.plan.frames + lost_tables_);
    KvzDamage damage = holes_.damage();
    damage.others = ending_.faults(scan_, header_.plan.frames, !damage.holes.empty());
    damage.followed = ending_.followed();
    return damage;
  }

 private:
  /// What keeps a frame from being decoded, if anything.
  std::optional<BrokenFrames> try_frame(const PlanGroup& group, std::uint64_t f, ByteView coded,
                                        const std::pair<std::uint64_t, bool>& place, std::span<std::byte> elements,
                                        Chain& chain) const {
    if (!place.second) return BrokenFrames{f, f + 1, place.first, "its record is gone", true};
    try {
      check_frame(group, f, coded);
      decode_frame(group, f, coded, elements, chain);
      return {};
    } catch (const Error& e) {
      std::string why = e.where() + ": " + e.message();
      const std::string name = frame_name(header_, f) + ": ";
      if (why.starts_with(name)) why.erase(0, name.size());
      return BrokenFrames{f, f + 1, place.first, std::move(why), false, e.code() == ErrorCode::unsupported};
    }
  }

  bool may_be(const RecordHeader& h, std::uint64_t offset) {
    if (h.type != static_cast<std::uint16_t>(RecordType::frame)) {
      if (h.type == static_cast<std::uint16_t>(RecordType::header) || h.stored > limits::kDescription) return false;
      if (places_) return !inside_frame(offset);
      return h.type != static_cast<std::uint16_t>(RecordType::end) || !ends_another(h, offset);
    }
    if (places_) return place(offset).has_value();
    if (header_.plan.frames == 0) return false;
    // Before the tables are known, frames may seem to be further on than they are.
    const std::uint64_t others = ending_.others() + lost_tables_, room = has_tables_ ? 0 : limits::kTables;
    if (h.sequence < others || h.sequence - others >= header_.plan.frames + room) return false;
    const std::uint64_t frame = std::min<std::uint64_t>(h.sequence - others, header_.plan.frames - 1);
    const PlanGroup& group = header_.plan.groups[header_.plan.group_of(frame)];
    const TileShape shape = header_.plan.shape(header_.dump, group, frame);
    return h.stored <=
           limits::kDescription + 2 * std::uint64_t{shape.rows} * shape.cols * dtype_unit(group.context.source);
  }

  /// The frame whose record the index says to stand here.
  std::optional<std::uint64_t> place(std::uint64_t offset) const {
    const auto at = std::lower_bound(places_->begin(), places_->end(), offset,
                                     [](const FrameAt& a, std::uint64_t o) { return a.offset < o; });
    if (at == places_->end() || at->offset != offset) return {};
    return static_cast<std::uint64_t>(at - places_->begin());
  }

  /// A container that is data of this one has records, too.
  bool inside_frame(std::uint64_t offset) const {
    const auto after = std::upper_bound(places_->begin(), places_->end(), offset,
                                        [](std::uint64_t o, const FrameAt& a) { return o < a.offset; });
    if (after == places_->begin()) return false;
    const FrameAt& frame = *std::prev(after);
    return offset > frame.offset && offset - frame.offset < frame.stored + kRecordOverhead;
  }

  /// An end record behind which a footer tells of a shorter file, and more follows.
  bool ends_another(const RecordHeader& h, std::uint64_t offset) {
    const std::uint64_t bytes = h.stored + kRecordOverhead;
    const ByteView ahead = scan_.front(bytes + kFooterBytes + 1);
    if (ahead.size() <= bytes + kFooterBytes) return false;
    Footer footer;
    std::copy_n(ahead.begin() + static_cast<std::ptrdiff_t>(bytes), kFooterBytes, footer.begin());
    try {
      return parse_footer(footer).file_bytes < offset + bytes + kFooterBytes;
    } catch (const Error&) {
      return false;
    }
  }

  /// What is lost is filled, and so costs as much as what is there.
  void check_all_earned() const {
    Plan::Cost all;
    for (const PlanGroup& group : header_.plan.groups) {
      add_cost(group, group.first_frame, group.first_frame + group.frames, all);
    }
    require_earned(all, file_bytes_);
  }

  /// To the next frame, through all that stands before it.
  void advance() {
    found_.reset();
    while (!ending_.complete()) {
      std::optional<FoundRecord> next = scan_.next();
      if (!next) return;
      if (next->lost > 0 || !next->record.sound()) damaged_ = true;
      ending_.count(*next);
      if (next->record.is(RecordType::frame)) {
        found_frame_ = number_of(*next);
        found_ = std::move(next);
        return;
      }
      if (next->record.is(RecordType::table)) take_table_of(*next);
      ending_.take(std::move(next->record), next->offset);
    }
  }

  void take_table_of(const FoundRecord& found) {
    try {
      take_table(found.record, tables_);
    } catch (const Error& e) {
      if (e.code() == ErrorCode::unsupported) throw;
      damaged_ = true;
      ending_.add_fault(fmt::format("byte {}: {}", found.offset, e.message()));
    }
  }

  std::uint64_t number_of(const FoundRecord& found) const {
    if (places_) return *place(found.offset);
    return found.record.header.sequence - ending_.others() - lost_tables_;
  }

  /// Once the tables are known: a table that is lacking was among the records that are lost before the first frame.
  void find_first() {
    ContainerReader::use_tables(tables_);
    if (places_ || !found_ || ending_.lost_before_frames() == 0) return;
    lost_tables_ = std::min<std::uint64_t>(lacking_tables().size(), ending_.lost_before_frames());
    found_frame_ -= std::min(found_frame_, lost_tables_);
  }

  RecordScan scan_;
  std::optional<std::vector<FrameAt>> places_;
  bool keeps_frames_, has_tables_ = false;
  std::uint64_t file_bytes_;
  Holes holes_;
  EndingCheck ending_;
  Tables tables_;
  std::optional<FoundRecord> found_;  // the next frame that is there
  std::uint64_t found_frame_ = 0;     // its number
  std::uint64_t lost_tables_ = 0, lost_frames_ = 0;
  bool damaged_ = false;
  std::string unsupported_;  // why the first frame that this build cannot decode is none
  Plan::Cost cost_;
};

/// Where the flags are lost that say what a header uses: those with which it makes sense.
KvzHeader header_by_trial(const Record& record) {
  constexpr std::uint32_t kAll = kFeatures | kSharedFeature;
  for (const std::uint32_t without : {0u, +kChainedFeature, +kSharedFeature}) {
    try {
      return header_of(record, {kKvzMinor, kAll & ~without});
    } catch (const Error& e) {
      if (e.code() != ErrorCode::corrupt) throw;
    }
  }
  return header_of(record, {kKvzMinor, kMembersFeature});
}

}  // namespace

std::unique_ptr<SalvageReader> open_salvage(InputStream& stream, std::optional<std::vector<FrameAt>> places,
                                            bool keeps_frames, std::uint64_t file_bytes) {
  RecordScan scan(stream);
  Prelude prelude;
  const ByteView front = scan.front(kPreludeBytes);
  if (front.size() < kPreludeBytes) fail(ErrorCode::truncated, "{} bytes are no container", front.size());
  std::copy(front.begin(), front.end(), prelude.begin());
  PreludeInfo info;
  std::string fault;
  try {
    info = check_prelude(prelude, FileKind::container, true);
  } catch (const Error& e) {
    const auto check = ByteReader(ByteView(prelude).subspan(28)).get<std::uint32_t>();
    const bool damaged = static_cast<std::uint32_t>(hash64(ByteView(prelude).first(28))) != check;
    if (e.code() != ErrorCode::corrupt && !damaged) throw;
    fault = damaged ? "the first 32 bytes are damaged" : e.message();
  }
  scan.skip(kPreludeBytes);
  std::optional<FoundRecord> first = scan.next();
  if (!first || !first->record.is(RecordType::header) || first->lost > 0) {
    fail(ErrorCode::corrupt, "{}", fault.empty() ? "its header is gone, and without it nothing is known" : fault);
  }
  const std::uint64_t hash = first->record.hash;
  KvzHeader header = fault.empty() ? header_of(std::move(first->record), info) : header_by_trial(first->record);
  auto reader =
      std::make_unique<Salvaged>(std::move(scan), std::move(header), hash, std::move(places), keeps_frames, file_bytes);
  if (!fault.empty()) reader->add_fault(std::move(fault));
  return reader;
}

std::optional<std::vector<FrameAt>> places_of_frames(InputFile file) {
  try {
    RecordFile records(std::move(file));
    Prelude prelude;
    records.read_at(0, prelude);
    const PreludeInfo info = check_prelude(prelude, FileKind::container, true);
    Record record = records.record_at(kPreludeBytes, 0);
    const std::uint64_t after_header = kPreludeBytes + kRecordOverhead + record.header.stored;
    const KvzHeader header = header_of(std::move(record), info);
    return frames_by_index(records, header.plan.frames, after_header);
  } catch (const Error&) {
    return {};
  }
}

}  // namespace kvzip
