// SPDX-License-Identifier: Apache-2.0
// What `kvzip bench` prints: one set of figures as text, Markdown, CSV or JSON.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "src/bench/bench_codecs.hpp"
#include "src/report/report.hpp"

namespace kvzip::tool {

/// One codec on one file.
struct BenchRow {
  std::string name, kind;  // kind: "peer", "preset" or "pipeline"
  Measured measured;       // without the bytes
  std::vector<Step> steps;
  std::uint64_t coded_bytes = 0;
  Errors errors;
};

struct BenchFile {
  std::string name;
  std::size_t tensors = 0;
  std::uint64_t bytes = 0, values = 0;
  std::vector<BenchRow> rows;
};

struct Bench {
  Effort effort;
  std::vector<BenchFile> files;
};

inline constexpr const char *kCopyName = "memcpy", *kPeerName = "zstd -1";
/// The speed of `row` over that of the codec of this name in the same file; nothing when it was not measured.
std::optional<double> relative(const BenchFile& file, const BenchRow& row, std::string_view to,
                               Direction Measured::*direction);

std::string bench_text(const Bench& bench);
std::string bench_markdown(const Bench& bench);
std::string bench_csv(const Bench& bench);
Json bench_json(const Bench& bench);

}  // namespace kvzip::tool
