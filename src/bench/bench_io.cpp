// SPDX-License-Identifier: Apache-2.0
#include "src/bench/bench_io.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <memory>
#include <system_error>
#include <tuple>

#include "codec/fail.hpp"
#include "formats/file.hpp"
#include "formats/kvz/kvz.hpp"
#include "formats/kvz/kvz_records.hpp"
#include "formats/kvz/kvz_segments.hpp"
#include "src/report/machine.hpp"
#include "src/request/request.hpp"

namespace kvzip::tool {
namespace {

constexpr std::uint64_t kReadStep = std::uint64_t{8} << 20;  // bytes of one call
constexpr std::uint64_t kReads = 12;                         // three, in two orders, from two places
constexpr std::uint64_t kOverhead = kRecordHeaderBytes + kRecordTailBytes;

/// The frame records of a container that opening it has checked.
std::vector<Extent> frame_records(const InputFile& file) {
  Footer footer;
  file.read_at(file.size() - kFooterBytes, footer);
  const std::uint64_t end = parse_footer(footer).index_offset;
  std::vector<Extent> out;
  for (std::uint64_t at = kPreludeBytes; at < end;) {
    RecordHeaderBytes bytes;
    file.read_at(at, bytes);
    const RecordHeader header = parse_record_header(bytes, {});
    if (header.stored > file.size() - kOverhead) fail(ErrorCode::corrupt, "records overlap");
    if (header.type == static_cast<std::uint16_t>(RecordType::frame)) out.push_back({at, header.stored + kOverhead});
    at += header.stored + kOverhead;
  }
  return out;
}

PassSeconds read_pass(const InputFile& file, const std::vector<Extent>& extents, bool drop, Bytes& buffer) {
  if (drop && ::posix_fadvise(file.descriptor(), 0, 0, POSIX_FADV_DONTNEED) != 0) {
    fail(ErrorCode::io, "the system does not forget a file");
  }
  const auto start = std::chrono::steady_clock::now();
  for (const Extent& extent : extents) {
    for (std::uint64_t done = 0; done < extent.bytes;) {
      const std::uint64_t some = std::min(kReadStep, extent.bytes - done);
      file.read_at(extent.offset + done, std::span(buffer).first(some));
      done += some;
    }
  }
  return {std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count()};
}

Speed read_speed(const InputFile& file, const std::vector<Extent>& extents, bool drop, const Effort& effort) {
  Bytes buffer(kReadStep);
  std::vector<double> seconds;
  for (const PassSeconds& pass :
       repeat(effort, [&](const TellPass&) { return read_pass(file, extents, drop, buffer); })) {
    seconds.push_back(pass[0]);
  }
  std::uint64_t bytes = 0;
  for (const Extent& extent : extents) bytes += extent.bytes;
  return speed_of(bytes, seconds);
}

IoRow row_of(const InputFile& file, const std::vector<StoredFrame>& frames, IoRow row, const Effort& effort,
             const std::function<void()>& read) {
  const std::vector<Extent> extents = extents_for(frames, row.tokens, row.layer);
  for (const Extent& extent : extents) {
    row.bytes += extent.bytes;
    row.extents.push_back(extent.bytes);
  }
  std::sort(row.extents.begin(), row.extents.end());
  row.cached = read_speed(file, extents, false, effort);
  read();
  row.dropped = read_speed(file, extents, true, effort);
  read();
  return row;
}

/// Appends the frames' records.
void write_copy(const InputFile& file, const std::vector<StoredFrame>& frames, Sink& out) {
  Bytes record;
  for (const StoredFrame& frame : frames) {
    record.resize(frame.record.bytes);
    file.read_at(frame.record.offset, record);
    out.append(record);
  }
}

struct Stored {
  std::vector<StoredFrame> frames;
  std::uint64_t tokens = 0;
  FrameOrder order = FrameOrder::layer;
};

/// The frames of a container and of those that were appended to it.
Stored read_stored(const std::shared_ptr<const InputFile>& file) {
  Stored out;
  const Segments segments = find_segments(*file);
  if (segments.all.size() > 1) out.order = FrameOrder::token;
  for (const Segment& segment : segments.all) {
    InputFile one = segment_file(file, segment);
    const std::vector<Extent> records = frame_records(one);
    const std::uint64_t before = out.tokens;
    for (StoredFrame frame : stored_frames(records, open_kvz_segment(std::move(one))->summary())) {
      frame.record.offset += segment.begin;
      frame.tokens.first += before;
      frame.tokens.second += before;
      frame.until += before;
      out.tokens = std::max(out.tokens, frame.tokens.second);
      out.frames.push_back(frame);
    }
  }
  return out;
}

std::pair<std::uint32_t, std::uint32_t> layers_of(const KvzGroup& group) {
  const std::uint32_t own = group.layer.value_or(0);
  std::pair<std::uint32_t, std::uint32_t> out{own, own};
  for (const KvzMember& member : group.members) {
    out = {std::min(out.first, member.layer), std::max(out.second, member.layer)};
  }
  return out;
}

std::string order_name(FrameOrder order) {
  return order == FrameOrder::layer ? "layer" : "token";
}

std::string gigabytes(const Speed& speed) {
  return fmt::format("{:.2f}", speed.median);
}

}  // namespace

std::vector<Extent> joined(std::vector<Extent> extents) {
  std::sort(extents.begin(), extents.end(), [](const Extent& a, const Extent& b) { return a.offset < b.offset; });
  std::vector<Extent> out;
  for (const Extent& extent : extents) {
    if (!out.empty() && out.back().offset + out.back().bytes == extent.offset) {
      out.back().bytes += extent.bytes;
    } else {
      out.push_back(extent);
    }
  }
  return out;
}

std::vector<StoredFrame> stored_frames(const std::vector<Extent>& records, const KvzSummary& summary) {
  std::vector<StoredFrame> out;
  std::size_t record = 0, number = 0;
  for (const KvzGroup& group : summary.groups) {
    if (group.frames > records.size() - record) fail(ErrorCode::corrupt, "it has fewer frames than it says");
    const bool cache = group.rows > 0 && group.role != Role::query;
    for (std::uint64_t f = 0; f < group.frames; ++f, ++record) {
      if (!cache) continue;
      const std::uint64_t first = f * group.chunk_rows, restart = std::max<std::uint64_t>(group.restart, 1);
      const std::uint64_t last = std::min((f / restart + 1) * restart * group.chunk_rows, group.rows);
      const std::uint64_t end = std::min(first + group.chunk_rows, group.rows);
      out.push_back({records[record], {first, end}, group.restart == 0 ? end : last, layers_of(group), number});
    }
    number += cache ? 1 : 0;
  }
  if (record != records.size()) fail(ErrorCode::corrupt, "it has more frames than it says");
  return out;
}

std::vector<StoredFrame> sorted(std::vector<StoredFrame> frames, FrameOrder order) {
  std::stable_sort(frames.begin(), frames.end(), [&](const StoredFrame& a, const StoredFrame& b) {
    const std::uint64_t t = a.tokens.first, u = b.tokens.first;
    return order == FrameOrder::layer ? std::tie(a.group, t) < std::tie(b.group, u) : t < u;
  });
  return frames;
}

std::vector<StoredFrame> packed(std::vector<StoredFrame> frames) {
  std::uint64_t at = 0;
  for (StoredFrame& frame : frames) {
    frame.record.offset = at;
    at += frame.record.bytes;
  }
  return frames;
}

std::vector<Extent> extents_for(const std::vector<StoredFrame>& frames, TokenRange tokens,
                                std::optional<std::uint32_t> layer) {
  std::vector<Extent> out;
  for (const StoredFrame& frame : frames) {
    if (layer && (*layer < frame.layers.first || *layer > frame.layers.second)) continue;
    if (frame.tokens.first < tokens.second && tokens.first < frame.until) out.push_back(frame.record);
  }
  return joined(std::move(out));
}

BenchIo bench_io(const std::string& path, TokenRange range, const Effort& effort, const Progress& progress) {
  const auto reader = open_reader(path);
  KvzReader* container = reader->traits().container;
  if (reader->traits().once) throw UsageError("reads are measured of a container that is a file, not a pipe");
  if (container == nullptr) fail(ErrorCode::invalid_argument, "reads are measured of a container");
  if (container->description().unfinished > 0) {
    fail(ErrorCode::invalid_argument, "an append to it was not finished: the next one, or recover, takes that away");
  }
  const auto file = std::make_shared<const InputFile>(kvz_input(path));
  const Stored stored = read_stored(file);
  BenchIo out{path, stored.tokens, {}};
  if (out.tokens == 0) fail(ErrorCode::invalid_argument, "it holds no frames of keys and values");
  if (range.second == 0) range.second = (out.tokens + 3) / 4;
  range.second = std::min(range.second, out.tokens);
  if (range.first >= range.second) fail(ErrorCode::invalid_argument, "it has {} tokens, none of these", out.tokens);
  const FrameOrder other = stored.order == FrameOrder::layer ? FrameOrder::token : FrameOrder::layer;
  const std::vector<StoredFrame> frames = sorted(stored.frames, other);
  const TemporaryFile aside(path);
  write_copy(*file, frames, *aside.sink());
  if (::fdatasync(aside.descriptor()) != 0)
    fail(ErrorCode::io, "cannot write a copy beside it: {}", std::generic_category().message(errno));
  const InputFile copy = aside.input(path);
  const std::vector<StoredFrame> copied = packed(frames);
  const std::uint32_t layer = sorted(frames, FrameOrder::layer)[frames.size() / 2].layers.first;
  const TokenRange all{0, out.tokens};
  std::uint64_t done = 0;
  const auto tell = [&] {
    if (progress) progress(++done, kReads);
  };
  for (const IoRow& read : {IoRow{{}, "all", {}, all, 0, {}, {}, {}}, IoRow{{}, "layer", layer, all, 0, {}, {}, {}},
                            IoRow{{}, "range", {}, range, 0, {}, {}, {}}}) {
    for (const FrameOrder order : {FrameOrder::layer, FrameOrder::token}) {
      IoRow row = read;
      row.order = order_name(order);
      const bool own = order == stored.order;
      out.rows.push_back(row_of(own ? *file : copy, own ? stored.frames : copied, std::move(row), effort, tell));
    }
  }
  return out;
}

std::string bench_io_text(const std::vector<BenchIo>& files) {
  std::string out = fmt::format("kvzip {} {}; GB/s of stored bytes, median\n", KVZIP_VERSION, machine_line());
  for (const BenchIo& file : files) {
    out += fmt::format("\n{}: {} tokens\n\n", printable(file.name), file.tokens);
    Table table(
        {"order", "read", ">tokens", ">bytes", ">extents", ">smallest", ">median", ">largest", ">cached", ">dropped"});
    for (const IoRow& row : file.rows) {
      const std::string read = row.layer ? fmt::format("layer {}", *row.layer) : row.read;
      table.add({row.order, read, fmt::format("{}:{}", row.tokens.first, row.tokens.second), size_text(row.bytes),
                 std::to_string(row.extents.size()), size_text(row.extents.front()),
                 size_text(row.extents[row.extents.size() / 2]), size_text(row.extents.back()), gigabytes(row.cached),
                 gigabytes(row.dropped)});
    }
    out += table.text();
  }
  return out;
}

Json bench_io_json(const std::vector<BenchIo>& files) {
  Json out{{"schema", 1}, {"machine", machine_line()}, {"files", Json::array()}};
  for (const BenchIo& file : files) {
    Json one{{"name", printable(file.name)}, {"tokens", file.tokens}, {"reads", Json::array()}};
    for (const IoRow& row : file.rows) {
      one["reads"].push_back({{"order", row.order},
                              {"read", row.read},
                              {"layer", row.layer ? Json(*row.layer) : Json(nullptr)},
                              {"first", row.tokens.first},
                              {"end", row.tokens.second},
                              {"bytes", row.bytes},
                              {"extents", row.extents},
                              {"cached_gbs", row.cached.median},
                              {"dropped_gbs", row.dropped.median},
                              {"passes", row.cached.passes}});
    }
    out["files"].push_back(std::move(one));
  }
  return out;
}

}  // namespace kvzip::tool
