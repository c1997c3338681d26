// SPDX-License-Identifier: Apache-2.0
#include "src/bench/bench_io.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>

#include "codec/fail.hpp"
#include "formats/file.hpp"
#include "formats/kvz/kvz_records.hpp"
#include "src/report/machine.hpp"

namespace kvzip::tool {
namespace {

constexpr std::uint64_t kReadStep = std::uint64_t{8} << 20;  // bytes of one call
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
  for (const PassSeconds& pass : repeat(effort, [&] { return read_pass(file, extents, drop, buffer); })) {
    seconds.push_back(pass[0]);
  }
  std::uint64_t bytes = 0;
  for (const Extent& extent : extents) bytes += extent.bytes;
  return speed_of(bytes, seconds);
}

IoRow row_of(const InputFile& file, const std::vector<StoredFrame>& frames, std::string order, std::string read,
             TokenRange tokens, const Effort& effort) {
  const std::vector<Extent> extents = extents_for(frames, tokens);
  IoRow row{std::move(order), std::move(read), tokens, 0, {}, {}, {}};
  for (const Extent& extent : extents) {
    row.bytes += extent.bytes;
    row.extents.push_back(extent.bytes);
  }
  std::sort(row.extents.begin(), row.extents.end());
  row.cached = read_speed(file, extents, false, effort);
  row.dropped = read_speed(file, extents, true, effort);
  return row;
}

void by_first_token(std::vector<StoredFrame>& frames) {
  std::stable_sort(frames.begin(), frames.end(),
                   [](const auto& a, const auto& b) { return a.tokens.first < b.tokens.first; });
}

/// Appends the frames' records in an order of their own.
void write_copy(const InputFile& file, std::vector<StoredFrame> frames, Sink& out) {
  by_first_token(frames);
  Bytes record;
  for (const StoredFrame& frame : frames) {
    record.resize(frame.record.bytes);
    file.read_at(frame.record.offset, record);
    out.append(record);
  }
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
  std::size_t record = 0;
  for (const KvzGroup& group : summary.groups) {
    if (group.frames > records.size() - record) fail(ErrorCode::corrupt, "it has fewer frames than it says");
    const bool cache = group.rows > 0 && group.role != Role::query;
    for (std::uint64_t f = 0; f < group.frames; ++f, ++record) {
      if (!cache) continue;
      const std::uint64_t first = f * group.chunk_rows, restart = std::max<std::uint64_t>(group.restart, 1);
      const std::uint64_t last = std::min((f / restart + 1) * restart * group.chunk_rows, group.rows);
      const std::uint64_t end = std::min(first + group.chunk_rows, group.rows);
      out.push_back({records[record], {first, end}, group.restart == 0 ? end : last});
    }
  }
  if (record != records.size()) fail(ErrorCode::corrupt, "it has more frames than it says");
  return out;
}

std::vector<StoredFrame> token_order(std::vector<StoredFrame> frames) {
  by_first_token(frames);
  std::uint64_t at = 0;
  for (StoredFrame& frame : frames) {
    frame.record.offset = at;
    at += frame.record.bytes;
  }
  return frames;
}

std::vector<Extent> extents_for(const std::vector<StoredFrame>& frames, TokenRange tokens) {
  std::vector<Extent> out;
  for (const StoredFrame& frame : frames) {
    if (frame.tokens.first < tokens.second && tokens.first < frame.until) out.push_back(frame.record);
  }
  return joined(std::move(out));
}

BenchIo bench_io(const std::string& path, TokenRange range, const Effort& effort) {
  const auto reader = open_reader(path);
  KvzReader* container = reader->traits().container;
  if (container == nullptr || reader->traits().once) {
    fail(ErrorCode::invalid_argument, "reads are measured of a container that is a file");
  }
  const KvzSummary summary = container->summary();
  if (summary.appended > 0 || summary.unfinished > 0) {
    fail(ErrorCode::invalid_argument, "reads are measured of a container that nothing was appended to");
  }
  const InputFile file(path);
  const std::vector<StoredFrame> frames = stored_frames(frame_records(file), summary);
  BenchIo out{path, 0, {}};
  for (const StoredFrame& frame : frames) out.tokens = std::max(out.tokens, frame.tokens.second);
  if (out.tokens == 0) fail(ErrorCode::invalid_argument, "it holds no frames of keys and values");
  if (range.second == 0) range.second = (out.tokens + 1) / 2;
  range.second = std::min(range.second, out.tokens);
  if (range.first >= range.second) fail(ErrorCode::invalid_argument, "it has {} tokens, none of these", out.tokens);
  const TemporaryFile copy(path);
  write_copy(file, frames, *copy.sink());
  if (::fdatasync(copy.descriptor()) != 0) fail(ErrorCode::io, "cannot write a copy beside it");
  const InputFile reordered = copy.input(path);
  const TokenRange all{0, out.tokens};
  const std::vector<StoredFrame> by_token = token_order(frames);
  out.rows.push_back(row_of(file, frames, "layer", "all", all, effort));
  out.rows.push_back(row_of(reordered, by_token, "token", "all", all, effort));
  out.rows.push_back(row_of(file, frames, "layer", "range", range, effort));
  out.rows.push_back(row_of(reordered, by_token, "token", "range", range, effort));
  return out;
}

std::string bench_io_text(const std::vector<BenchIo>& files) {
  std::string out = fmt::format("kvzip {} {}; GB/s of stored bytes, median\n", KVZIP_VERSION, machine_line());
  for (const BenchIo& file : files) {
    out += fmt::format("\n{}: {} tokens\n\n", printable(file.name), file.tokens);
    Table table(
        {"order", "read", ">tokens", ">bytes", ">extents", ">smallest", ">median", ">largest", ">cached", ">dropped"});
    for (const IoRow& row : file.rows) {
      table.add({row.order, row.read, fmt::format("{}:{}", row.tokens.first, row.tokens.second), size_text(row.bytes),
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
