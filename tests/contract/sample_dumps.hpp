// SPDX-License-Identifier: Apache-2.0
// Small dumps of keys and values in any layout, and the way through a container and back.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "codec/fail.hpp"
#include "formats/file.hpp"
#include "formats/kvz/kvz.hpp"
#include "tests/contract/sample_tiles.hpp"
#include "tests/support/memory_dump.hpp"

namespace kvzip::test {

struct Spec {
  std::string name;
  DType dtype = DType::f16;
  std::vector<std::uint64_t> shape;
  Role role = Role::other;
  std::optional<std::uint32_t> layer;
  std::string axes;
};

/// A reader of these tensors that states their roles.
inline std::unique_ptr<MemoryReader> sample_reader(const std::vector<Spec>& specs, Fill fill = Fill::ordinary) {
  Dump dump;
  Recognition recognition;
  for (const Spec& s : specs) {
    dump.tensors.push_back({s.name, s.dtype, s.shape});
    recognition.tensors.push_back({s.role, s.layer, Axes(s.axes), "test"});
    recognition.recognised += s.role != Role::other;
    if (s.layer) recognition.model.layers = std::max(recognition.model.layers, *s.layer + 1);
    if (const auto l = s.axes.find('L'); l != std::string::npos) {
      recognition.model.layers = std::max(recognition.model.layers, static_cast<std::uint32_t>(s.shape[l]));
    }
  }
  auto reader = std::make_unique<MemoryReader>(std::move(dump), 1 << 16);
  reader->stated = std::move(recognition);
  for (std::size_t i = 0; i < specs.size(); ++i) {
    if (!is_codable_float(specs[i].dtype)) continue;
    Bytes& data = reader->data(i);
    const auto cols = static_cast<std::uint32_t>(specs[i].shape.empty() ? 1 : specs[i].shape.back());
    const auto values = static_cast<std::uint32_t>(data.size() / dtype_unit(specs[i].dtype));
    if (values != 0) data = sample_elements(specs[i].dtype, values / cols, cols, fill, i + 1);
  }
  return reader;
}

/// Keys and values of some layers, HTD, and two tensors that pass through.
inline std::vector<Spec> sample_specs(std::uint32_t layers, std::uint64_t tokens, DType type = DType::f16,
                                      std::uint64_t heads = 2, std::uint64_t dim = 4) {
  std::vector<Spec> specs{{"position_ids", DType::i64, {1, 5}, Role::other, {}, ""}};
  for (std::uint32_t l = 0; l < layers; ++l) {
    specs.push_back({fmt::format("layers.{}.key", l), type, {heads, tokens, dim}, Role::key, l, "HTD"});
    specs.push_back({fmt::format("layers.{}.value", l), type, {heads, tokens, dim}, Role::value, l, "HTD"});
  }
  specs.push_back({"scale", DType::f32, {}, Role::other, {}, ""});
  return specs;
}

/// An unnamed file with this content (or none yet) and a path to open it by.
class MemoryFile {
 public:
  explicit MemoryFile(ByteView content = {}) : fd_(::memfd_create("test", MFD_CLOEXEC)) {
    if (::write(fd_.get(), content.data(), content.size()) != static_cast<ssize_t>(content.size()))
      fail(ErrorCode::io, "memfd");
  }
  std::string path() const { return fmt::format("/proc/self/fd/{}", fd_.get()); }
  int descriptor() const { return fd_.get(); }
  void flip(std::size_t bit) const {
    unsigned char byte = 0;
    const auto at = static_cast<off_t>(bit / 8);
    if (::pread(fd_.get(), &byte, 1, at) != 1) fail(ErrorCode::io, "memfd");
    byte = static_cast<unsigned char>(byte ^ 1u << (bit % 8));
    if (::pwrite(fd_.get(), &byte, 1, at) != 1) fail(ErrorCode::io, "memfd");
  }

 private:
  FileDescriptor fd_;
};

inline Bytes file_bytes(const std::string& path) {
  const InputFile file(path);
  Bytes bytes(file.size());
  file.read_at(0, bytes);
  return bytes;
}

inline KvzOptions options_of(std::string_view rules, std::optional<std::uint64_t> chunk = {}) {
  return {RuleSet::parse(rules, "test"), chunk, {{"key", "value"}}};
}

/// The dump as a container's bytes.
inline Bytes compressed(MemoryReader& reader, const KvzOptions& options, unsigned threads = 1) {
  const std::string path = fmt::format("{}/kvzip-test-{}.kvz", temporary_directory(), ::getpid());
  const auto writer = create_kvz_writer(path, reader.dump(), *reader.recognition(), options, true);
  transcode(reader, *writer, threads);
  writer->finish();
  Bytes bytes = file_bytes(path);
  ::unlink(path.c_str());
  return bytes;
}

/// All tensors' bytes, by index.
inline std::vector<Bytes> values_of(DumpReader& reader, unsigned threads = 1) {
  MemoryWriter writer(reader.dump());
  transcode(reader, writer, threads);
  std::vector<Bytes> values;
  for (std::size_t i = 0; i < reader.dump().tensors.size(); ++i) values.push_back(writer.data(i));
  return values;
}
inline std::vector<Bytes> decompressed(ByteView container, unsigned threads = 1) {
  const MemoryFile file(container);
  return values_of(*open_kvz(file.path()), threads);
}
/// The same, front to back through a pipe's reader.
inline std::vector<Bytes> decompressed_stream(ByteView container) {
  const MemoryFile file(container);
  ::lseek(file.descriptor(), 0, SEEK_SET);
  InputStream stream(file.descriptor(), "stream");
  return values_of(*open_kvz(stream));
}

inline std::vector<Bytes> originals(const MemoryReader& reader) {
  std::vector<Bytes> values;
  for (std::size_t i = 0; i < reader.dump().tensors.size(); ++i) values.push_back(reader.data(i));
  return values;
}

}  // namespace kvzip::test
