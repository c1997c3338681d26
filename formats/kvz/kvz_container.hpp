// SPDX-License-Identifier: Apache-2.0
// What readers of a container share, wherever its frames come from: the header, costs, and frames to elements.
#pragma once

#include <cstdint>
#include <set>
#include <span>
#include <string>
#include <type_traits>
#include <utility>

#include "codec/fail.hpp"
#include "formats/kvz/kvz_frames.hpp"
#include "formats/kvz/kvz_header.hpp"
#include "formats/kvz/kvz_source.hpp"
#include "formats/kvz/kvz_tables.hpp"
#include "kvzip/container.hpp"

namespace kvzip {

/// The header that a record holds. Errors are corrupt, unsupported or limit.
KvzHeader header_of(Record record, const PreludeInfo& prelude);

/// What stands in front of a file's frames.
struct FileHead {
  RecordFile records;
  KvzHeader header;
  unsigned minor = 0;
  std::uint64_t end = 0;  // where it ends
};
/// `shared`: its first tokens may be in another file.
FileHead read_head(InputFile file, bool shared = false);

/// Whether `stored` bytes have earned this cost (kvzip/trust.hpp), and fail(limit) where they have not and files are
/// not trusted.
bool earned(const Plan::Cost& cost, std::uint64_t stored);
void require_earned(const Plan::Cost& cost, std::uint64_t stored);

/// What does not depend on where frames come from.
class ContainerReader : public KvzReader {
 public:
  /// `file`: what errors name; empty leaves it to who called, for containers that are a part of something.
  ContainerReader(KvzHeader header, unsigned minor, std::string file = {});

  const Dump& dump() const override { return header_.dump; }
  const Recognition* recognition() const override { return &header_.recognition; }
  std::uint64_t part_count() const override { return header_.plan.parts; }
  Part part(std::uint64_t index) const override { return header_.plan.part(header_.dump, index); }
  void expand(Part& part) const override {
    of_file([&] { decode(part); });
  }
  const KvzSummary& description() const override { return description_; }
  void use_tables(const Tables& tables) override { use_tables_to_read(header_.plan, tables); }
  /// True when a pipeline names a table that it has not been given.
  bool lacks_tables() const { return !lacking_tables().empty(); }
  ReaderTraits traits() override;

 protected:
  /// The tables that pipelines name and have not been given, each once.
  std::set<std::string> lacking_tables() const;
  /// From a fetched part's `coded` to its data. Any thread.
  void decode(Part& part) const;
  /// Of frames `first` to `last` - 1.
  void add_cost(const PlanGroup& group, std::uint64_t first, std::uint64_t last, Plan::Cost& sum) const;
  void check_earned(const PlanGroup& group, std::uint64_t frame, std::uint64_t payload) const;
  /// A frame as it was fetched: its checksum, and whether it has earned its memory.
  void check_frame(const PlanGroup& group, std::uint64_t frame, ByteView coded) const;
  void decode_frame(const PlanGroup& group, std::uint64_t frame, ByteView coded, std::span<std::byte> elements,
                    Chain& chain) const;

  /// Errors name the file: of two that are read together only this one knows which is meant.
  template <typename F>
  std::invoke_result_t<F> of_file(F&& step) const {
    if (file_.empty()) return step();
    return in_file(file_, std::forward<F>(step));
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
  std::string file_;
};

}  // namespace kvzip
