// SPDX-License-Identifier: Apache-2.0
// The library without the tool: compresses a dump, then measures one of its tensors. embed DUMP OUT.kvz
//
// With CMake: add_subdirectory(kvzip) and target_link_libraries(yours PRIVATE kvzip_lib).
#include <algorithm>
#include <cstdio>
#include <vector>

#include "kvzip/container.hpp"
#include "kvzip/error.hpp"
#include "kvzip/io.hpp"
#include "kvzip/metrics.hpp"

namespace {

/// All values of a tensor as floats.
std::vector<float> values(kvzip::DumpReader& reader, std::size_t tensor) {
  const kvzip::TensorInfo& info = reader.dump().tensors[tensor];
  kvzip::Bytes bytes(info.bytes());
  reader.read({tensor, std::vector<std::uint64_t>(info.shape.size()), info.shape}, bytes);
  std::vector<float> out(info.elements());
  kvzip::to_float(info.dtype, bytes, out);
  return out;
}

void compress(const char* from, const char* to) {
  const auto reader = kvzip::open_reader(from);  // the format is seen from the content
  const kvzip::Recognition recognition = kvzip::recognise(reader->dump());
  kvzip::KvzOptions options;
  options.rules = kvzip::RuleSet::builtin("kivi-4");
  options.rules.override_role(kvzip::Role::value, "quant:bits=4:axis=token-head,ac");
  options.user = {{"job", "embed"}};
  const auto writer = kvzip::create_kvz_writer(to, reader->dump(), recognition, options, /*overwrite=*/true);
  kvzip::transcode(*reader, *writer, /*threads=*/0);
  writer->finish();  // without it there is no file
}

void measure(const char* from, const char* to) {
  const auto original = kvzip::open_reader(from);
  const auto coded = kvzip::open_reader(to);  // decodes what is asked for
  const std::vector<kvzip::TensorRole> roles = kvzip::recognise(original->dump()).tensors;
  const auto key =
      std::find_if(roles.begin(), roles.end(), [](const auto& role) { return role.role == kvzip::Role::key; });
  if (key == roles.end()) throw kvzip::Error(kvzip::ErrorCode::invalid_argument, std::string(from) + " has no keys");
  const std::size_t tensor = static_cast<std::size_t>(key - roles.begin());  // a container keeps the order of the dump
  const kvzip::TensorInfo& info = original->dump().tensors[tensor];
  kvzip::Distortion distortion;
  distortion.add(values(*original, tensor), values(*coded, tensor), info.shape.back());
  std::printf("%s: nrmse %.4f, lowest cosine %.4f\n", info.name.c_str(), distortion.nrmse(), distortion.cosine_min());
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fputs("usage: embed DUMP OUT.kvz\n", stderr);
    return 2;
  }
  try {
    compress(argv[1], argv[2]);
    measure(argv[1], argv[2]);
  } catch (const kvzip::Error& error) {  // the only exception of the library
    std::fprintf(stderr, "embed: %s\n", error.what());
    return 1;
  }
}
