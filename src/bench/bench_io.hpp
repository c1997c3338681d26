// SPDX-License-Identifier: Apache-2.0
// How the frames of a container lie for whoever reads them: stretches of the file that are read in one go, and how
// fast that is, as the file is and as it would be with its frames in the order of tokens.
#pragma once

#include <cstdint>
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
};
/// In the order of the file. fail(corrupt) where the groups say something else than the records.
std::vector<StoredFrame> stored_frames(const std::vector<Extent>& records, const KvzSummary& summary);
/// The same frames one after the other by their first tokens, from the start of a file.
std::vector<StoredFrame> token_order(std::vector<StoredFrame> frames);
/// What a read of these tokens takes.
std::vector<Extent> extents_for(const std::vector<StoredFrame>& frames, TokenRange tokens);

struct IoRow {
  std::string order, read;  // "layer" or "token"; "all" or "range"
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
/// Writes a copy of the frames beside the file. `range` of {0, 0}: the first half of the tokens.
BenchIo bench_io(const std::string& path, TokenRange range, const Effort& effort);

std::string bench_io_text(const std::vector<BenchIo>& files);
Json bench_io_json(const std::vector<BenchIo>& files);

}  // namespace kvzip::tool
