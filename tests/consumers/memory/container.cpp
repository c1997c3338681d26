// SPDX-License-Identifier: Apache-2.0
// A dump in memory to a container in memory and back, without a file: container DUMP
#include <cstdio>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>

#include "kvzip/container.hpp"
#include "kvzip/error.hpp"
#include "kvzip/io.hpp"

namespace {

/// Bytes of every tensor, one after the other.
kvzip::Bytes elements(kvzip::DumpReader& reader) {
  kvzip::Bytes all;
  for (std::size_t t = 0; t < reader.dump().tensors.size(); ++t) {
    const kvzip::TensorInfo& info = reader.dump().tensors[t];
    kvzip::Bytes bytes(info.bytes());
    reader.read({t, std::vector<std::uint64_t>(info.shape.size()), info.shape}, bytes);
    all.insert(all.end(), bytes.begin(), bytes.end());
  }
  return all;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  std::ifstream file(argv[1], std::ios::binary);
  const std::string text(std::istreambuf_iterator<char>(file), {});
  try {
    const auto dump = kvzip::open_reader(std::as_bytes(std::span(text)));
    kvzip::KvzOptions options;
    options.rules = kvzip::RuleSet::builtin("lossless");
    kvzip::Bytes coded;
    const auto writer = kvzip::create_kvz_writer(std::make_unique<kvzip::MemorySink>(coded), dump->dump(),
                                                 kvzip::recognise(dump->dump()), options);
    kvzip::transcode(*dump, *writer, /*threads=*/2);
    writer->finish();
    const auto container = kvzip::open_reader(coded);
    std::printf("%zu bytes to %zu\n", text.size(), coded.size());
    return coded.size() < text.size() && elements(*dump) == elements(*container) ? 0 : 1;
  } catch (const kvzip::Error& error) {
    std::fprintf(stderr, "container: %s\n", error.what());
    return 1;
  }
}
