// SPDX-License-Identifier: Apache-2.0
// What survives in a damaged container.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kvzip/container.hpp"
#include "kvzip/dump.hpp"
#include "kvzip/io.hpp"

namespace kvzip {

/// Values of a container that are lost: of one frame, of those after it that cannot be decoded without it, or of frames
/// side by side whose records are gone.
struct KvzHole {
  std::string name;           // "layers.3.key, tokens 256-511"
  std::string why;            // "its checksum does not match"
  std::vector<Slice> slices;  // of the dump's tensors
  std::uint64_t values = 0;   // elements of these
  std::uint64_t offset = 0;   // where its record stands in the file or, where that is gone, should begin
};

struct KvzDamage {
  std::vector<TensorInfo> tensors;  // of the dump
  std::vector<KvzHole> holes;       // in the order of the file
  std::vector<std::string> others;  // what else is wrong with the file; no value is lost by it
  bool followed = false;            // by another container, of which nothing was read; also among `others`
  std::uint64_t values = 0, lost = 0;
  std::optional<KvzBase> base{};  // whose first tokens come before these; of them nothing is read
  std::uint64_t base_values = 0;  // of these tokens; not among `values`

  bool none() const { return holes.empty() && others.empty(); }
};

struct RecoverOptions {
  std::string out;            // empty: nothing is written
  std::string_view format{};  // of `out`: "kvz", or one that create_writer() takes
  bool overwrite = false;
  std::string tables{};  // a file of tables that the container names; empty: the one beside it, if any
  unsigned threads = 0;  // 0 = all
};

/// Reads all of a container that can be read: frames whose checksums hold, found by their records, whatever became of
/// the index. What is lost is NaN in floats and 0 in anything else. As a container, `out` keeps the frames as they are,
/// but loses the records of results and of pages. fail(corrupt) or fail(truncated) where the header is gone, without
/// which nothing is known, or no value is left; then nothing is written. "-" reads standard input, of a pipe a copy.
KvzDamage recover_kvz(const std::string& path, const RecoverOptions& options, const Progress& progress = {});

}  // namespace kvzip
