// SPDX-License-Identifier: Apache-2.0
// Checks a container front to back, going on after a damaged frame.
#include <map>
#include <mutex>
#include <optional>

#include "formats/file.hpp"
#include "formats/kvz/kvz.hpp"
#include "formats/kvz/kvz_tables.hpp"
#include "kvzip/error.hpp"

namespace kvzip {
namespace {

/// Passes parts on; an error in one is noted and the rest goes on.
class VerifyingReader final : public DumpReader {
 public:
  explicit VerifyingReader(DumpReader& inner) : inner_(inner) {}
  const Dump& dump() const override { return inner_.dump(); }
  std::uint64_t part_count() const override { return inner_.part_count(); }
  Part part(std::uint64_t index) const override { return inner_.part(index); }
  void fetch(Part& part) override { inner_.fetch(part); }
  void expand(Part& part) const override {
    try {
      inner_.expand(part);
    } catch (const Error& e) {
      const std::lock_guard lock(mutex_);
      damage_.emplace(part.index, e.what());
      part.data.clear();
    }
  }
  void read(const Slice&, std::span<std::byte>) override {}
  std::vector<std::string> damage() const {
    std::vector<std::string> lines;
    for (const auto& [index, line] : damage_) lines.push_back(line);
    return lines;
  }

 private:
  DumpReader& inner_;
  mutable std::mutex mutex_;
  mutable std::map<std::uint64_t, std::string> damage_;
};

class NullWriter final : public DumpWriter {
 public:
  void append(Part&) override {}
  void finish() override {}
};

}  // namespace

std::vector<std::string> verify_kvz(const std::string& path, unsigned threads, const Progress& progress) {
  // The index is checked by opening the file as a file; then everything is read front to back, as from a pipe.
  std::optional<InputFile> file, front_to_back;
  std::optional<InputStream> stream;
  if (path != "-") {
    file.emplace(path);  // the only opening by this name: a pipe's bytes come once
    open_kvz(file->reopen_path());
    front_to_back.emplace(file->reopen_path());
    stream.emplace(front_to_back->descriptor(), path);
  }
  const std::unique_ptr<KvzReader> reader = open_kvz(stream ? *stream : stdin_stream());
  if (path != "-") reader->use_tables(tables_beside(path));
  VerifyingReader verifying(*reader);
  NullWriter nowhere;
  std::vector<std::string> damage;
  try {
    transcode(verifying, nowhere, threads, progress);
    return verifying.damage();
  } catch (const Error& e) {
    damage = verifying.damage();
    damage.push_back(e.what());
  }
  return damage;
}

}  // namespace kvzip
