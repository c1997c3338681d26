// SPDX-License-Identifier: Apache-2.0
// How the frames of a container lie for whoever reads them: stretches of the file that are read in one go, and how
// fast that is, as the file is and as it would be with its frames in the other order, of layers or of tokens.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kvzip/container.hpp"
#include "src/bench/bench.hpp"
#include "src/report/report.hpp"

namespace kvzip::tool {

struct Extent {
  std::uint64_t offset = 0, bytes = 0;
  bool operator==(const Extent&) const = default;
};
/// Extents that touch become one; they ascend then.
std::vector<Extent> joined(std::vector<Extent> extents);

/// Tokens that are read: the first, and one past the last.
using TokenRange = std::pair<std::uint64_t, std::uint64_t>;

/// A frame of keys or values.
struct StoredFrame {
  Extent record;
  TokenRange tokens;
  std::uint64_t until = 0;  // tokens before this one need it: its own, and those of frames that are chained to it
  std::pair<std::uint32_t, std::uint32_t> layers{};  // the first, and the last
  std::size_t group = 0;                             // of keys or values, counted in the order of the file
};
/// In the order of the file. fail(corrupt) where the groups say something else than the records.
std::vector<StoredFrame> stored_frames(const std::vector<Extent>& records, const KvzSummary& summary);
/// What stands together: a layer, or all layers of some tokens.
enum class FrameOrder : std::uint8_t { layer, token };
/// The same frames one after the other, by group and then by their first tokens, or the other way round.
std::vector<StoredFrame> sorted(std::vector<StoredFrame> frames, FrameOrder order);
/// As they would stand from the start of a file on.
std::vector<StoredFrame> packed(std::vector<StoredFrame> frames);
/// What a read of these tokens takes, of all layers or of one.
std::vector<Extent> extents_for(const std::vector<StoredFrame>& frames, TokenRange tokens,
                                std::optional<std::uint32_t> layer = {});

struct IoRow {
  std::string order, read;  // "layer" or "token"; "all", "layer" or "range"
  std::optional<std::uint32_t> layer;
  TokenRange tokens;
  std::uint64_t bytes = 0;
  std::vector<std::uint64_t> extents;  // their bytes, ascending
  Speed cached, dropped;               // from the system's cache; after it was asked to forget the file
};
struct BenchIo {
  std::string name;
  std::uint64_t tokens = 0;
  std::vector<IoRow> rows;
};
/// Reads all, a layer from the middle, and a range of tokens; {0, 0} is the first quarter of them. Writes a copy of the
/// frames beside the file. `progress` is told of reads.
BenchIo bench_io(const std::string& path, TokenRange range, const Effort& effort, const Progress& progress = {});

std::string bench_io_text(const std::vector<BenchIo>& files);
Json bench_io_json(const std::vector<BenchIo>& files);

}  // namespace kvzip::tool
