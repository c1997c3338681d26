// SPDX-License-Identifier: Apache-2.0
// Caches as files, for tests of what reads files only.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "formats/format_table.hpp"
#include "kvzip/dtype.hpp"
#include "tests/support/memory_dump.hpp"

namespace kvzip::test {

inline std::string write_dump(DumpReader& reader, const std::string& path) {
  const auto writer = create_writer(path, "safetensors", reader.dump(), true);
  transcode(reader, *writer, 1);
  writer->finish();
  return path;
}

/// A tensor named as `kvzip` knows it, heads x tokens x channels.
struct CacheTensor {
  std::string name;
  std::uint64_t heads = 1, tokens = 1, dim = 1;
  std::vector<float> values;
};
inline std::string write_cache(const std::vector<CacheTensor>& tensors, DType dtype, const std::string& path) {
  Dump dump;
  for (const CacheTensor& t : tensors) dump.tensors.push_back({t.name, dtype, {t.heads, t.tokens, t.dim}});
  dump.attributes.push_back(text_attribute("axes", "HTD"));
  MemoryReader reader(std::move(dump), 1 << 16);
  for (std::size_t i = 0; i < tensors.size(); ++i) from_float(dtype, tensors[i].values, reader.data(i));
  return write_dump(reader, path);
}

}  // namespace kvzip::test
