// SPDX-License-Identifier: Apache-2.0
// The streams of a frame's payload, and the directory before them: written and read (man/kvz.5, "Frame payload").
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "codec/bytes.hpp"
#include "codec/fail.hpp"
#include "codec/limits.hpp"
#include "codec/stage.hpp"
#include "codec/stage_clock.hpp"

namespace kvzip {

inline constexpr std::uint8_t kRaw = 1;  // flags: the payload holds the elements themselves
/// In a directory: the stage number of the stream of NaN, infinities and values beyond float.
inline constexpr std::uint8_t kSpecials = 15;

/// One stream's place in the directory.
struct FrameEntry {
  std::uint8_t stage;
  StreamLabel label;
  std::uint64_t table_size, body_size;
};

class FrameDirectory {
 public:
  explicit FrameDirectory(StageClock* clock) : clock_(clock) {}
  void add(std::uint8_t stage, const Stream& stream, const Coder& coder) {
    const StageTime time(clock_, StageClock::kCoder);
    Bytes table, body;
    coder.encode(stream, table, body);
    add_plain(stage, stream.label, std::move(table), std::move(body));
  }
  void add_plain(std::uint8_t stage, StreamLabel label, Bytes table, Bytes body) {
    size_ += table.size() + body.size();
    entries_.push_back({stage, label, table.size(), body.size()});
    bodies_.push_back(std::move(table));
    bodies_.push_back(std::move(body));
  }
  void write(ByteWriter& out) const {
    if (entries_.size() > limits::kStreams) {
      fail(ErrorCode::limit, "its pipeline makes {} streams of a frame, and readers take {}: fewer stages make fewer",
           entries_.size(), limits::kStreams);
    }
    constexpr std::size_t kMostOfEntry = 1 + 2 * 10;
    out.bytes().reserve(out.size() + 10 + entries_.size() * kMostOfEntry + size_);
    out.put_varint(entries_.size());
    for (const FrameEntry& e : entries_) {
      out.put(static_cast<std::uint8_t>(e.stage << 4 | static_cast<std::uint8_t>(e.label)));
      out.put_varint(e.table_size);
      out.put_varint(e.body_size);
    }
    for (const Bytes& body : bodies_) out.put_bytes(body);
  }

 private:
  StageClock* clock_;
  std::vector<FrameEntry> entries_;
  std::vector<Bytes> bodies_;  // table and body of each entry
  std::size_t size_ = 0;       // of all of them
};

inline std::vector<FrameEntry> read_directory(ByteReader& in) {
  const std::uint64_t count = in.get_varint();
  if (count > limits::kStreams) fail(ErrorCode::corrupt, "a frame of {} streams", count);
  std::vector<FrameEntry> entries(count);
  for (FrameEntry& e : entries) {
    const auto tag = in.get<std::uint8_t>();
    e.stage = tag >> 4;
    e.label = static_cast<StreamLabel>(tag & 15);
    if ((tag & 15) >= kStreamLabels) fail(ErrorCode::corrupt, "unknown stream label {}", tag & 15);
    e.table_size = in.get_varint();
    e.body_size = in.get_varint();
  }
  return entries;
}

inline void expect_padding(ByteReader& in) {
  for (const std::byte b : in.take(in.left())) {
    if (b != std::byte{0}) fail(ErrorCode::corrupt, "padding that is not zero");
  }
}

/// Hands a stage its streams, in order.
class FrameStreams final : public StreamReader {
 public:
  FrameStreams(ByteReader& in, const Coder& coder, StageClock* clock) : coder_(coder), clock_(clock) {
    for (const FrameEntry& e : read_directory(in)) parts_.push_back({e, {}, {}, false});
    for (Part& p : parts_) {
      p.table = in.take(p.entry.table_size);
      p.body = in.take(p.entry.body_size);
    }
  }
  void select(std::size_t stage) { stage_ = stage; }
  void get(Stream& stream) override {
    for (Part& p : parts_) {
      if (p.used || p.entry.stage != stage_) continue;
      p.used = true;
      const StageTime time(clock_, StageClock::kCoder);
      coder_.decode(stream, p.table, p.body);
      const bool lists = stream.type == StreamType::positions;
      if (stream.type != StreamType::bytes &&
          (lists ? stream.positions.size() != stream.count() : stream.data.size() != stream.size())) {
        fail(ErrorCode::corrupt, "a stream of the wrong size");
      }
      return;
    }
    fail(ErrorCode::truncated, "a stream is missing");
  }
  /// The body of the specials; empty when there are none.
  ByteView take_specials() {
    for (Part& p : parts_) {
      if (p.entry.stage != kSpecials || p.used) continue;
      p.used = true;
      if (p.body.empty() || !p.table.empty()) fail(ErrorCode::corrupt, "a damaged list of special values");
      return p.body;
    }
    return {};
  }
  /// The streams of all other stages, and of specials, as they are.
  void copy_others(FrameDirectory& to) {
    for (Part& p : parts_) {
      if (p.entry.stage == stage_) continue;
      p.used = true;
      to.add_plain(p.entry.stage, p.entry.label, {p.table.begin(), p.table.end()}, {p.body.begin(), p.body.end()});
    }
  }
  void finish() const {
    for (const Part& p : parts_) {
      if (!p.used) fail(ErrorCode::corrupt, "a stream belongs to no stage");
    }
  }

 private:
  struct Part {
    FrameEntry entry;
    ByteView table, body;
    bool used;
  };
  std::vector<Part> parts_;
  const Coder& coder_;
  StageClock* clock_;
  std::size_t stage_ = 0;
};

}  // namespace kvzip
