// SPDX-License-Identifier: Apache-2.0
// Converts a file, by the extension of its new name: convert FROM TO
#include <cstdio>

#include "kvzip/error.hpp"
#include "kvzip/io.hpp"

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  try {
    const auto reader = kvzip::open_reader(argv[1]);
    const auto writer = kvzip::create_writer(argv[2], kvzip::format_of_path(argv[2]), reader->dump(), false);
    kvzip::transcode(*reader, *writer, /*threads=*/0);
    writer->finish();
  } catch (const kvzip::Error& error) {
    std::fprintf(stderr, "convert: %s\n", error.what());
    return 1;
  }
}
