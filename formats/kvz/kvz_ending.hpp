// SPDX-License-Identifier: Apache-2.0
// What the records around the frames say, held against those that were found.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "codec/bytes.hpp"
#include "formats/kvz/kvz_frames.hpp"
#include "formats/kvz/kvz_scan.hpp"

namespace kvzip {

class EndingCheck {
 public:
  /// The header is the first record.
  explicit EndingCheck(std::uint64_t header_hash) { hashes_.put(header_hash); }
  /// Of every record after the header, in their order.
  void count(const FoundRecord& found);
  /// A record that is no frame.
  void take(Record record, std::uint64_t offset);
  void add_fault(std::string fault) { faults_.push_back(std::move(fault)); }

  /// The end record was there.
  bool complete() const { return complete_; }
  /// Records so far that are no frames.
  std::uint64_t others() const { return others_; }
  /// Records that are missing before the first frame that was found.
  std::uint64_t lost_before_frames() const { return lost_before_frames_; }

  /// fail(corrupt) unless the number of the index leaves room for just this many frames.
  void check_numbers(std::uint64_t frames) const;
  /// By another container, once faults() has looked.
  bool followed() const { return followed_; }
  /// What is wrong, after the last record. `holes`: some frames are.
  std::vector<std::string> faults(RecordScan& scan, std::uint64_t frames, bool holes);

 private:
  void check_end(const Record& record);
  void check_footer(RecordScan& scan);

  std::vector<FrameAt> walked_;
  std::vector<std::string> faults_;
  ByteWriter hashes_;
  std::uint64_t records_ = 1, others_ = 1, lost_ = 0, lost_before_frames_ = 0, lost_since_frame_ = 0;
  std::uint64_t index_offset_ = 0, index_number_ = 0, others_before_index_ = 0;
  Bytes index_;
  bool has_index_ = false, has_results_ = false, has_pages_ = false, complete_ = false, followed_ = false;
};

}  // namespace kvzip
