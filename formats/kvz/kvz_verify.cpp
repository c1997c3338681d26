// SPDX-License-Identifier: Apache-2.0
// Checks a container front to back, going on after a damaged frame.
#include <optional>

#include "formats/borrowed_reader.hpp"
#include "formats/file.hpp"
#include "formats/kvz/kvz.hpp"
#include "formats/kvz/kvz_tables.hpp"
#include "kvzip/error.hpp"

namespace kvzip {
namespace {

/// A reader whose damaged parts are read all the same: without data, and with what is wrong as their result.
class TolerantReader final : public BorrowedReader {
 public:
  using BorrowedReader::BorrowedReader;
  void expand(Part& part) const override {
    try {
      BorrowedReader::expand(part);
    } catch (const Error& e) {
      if (e.code() == ErrorCode::unsupported) throw;  // not damage: this build cannot tell
      part.result = std::string(e.what());
      part.data.clear();
    }
  }
};

}  // namespace

std::vector<std::string> verify_kvz(const std::string& path, unsigned threads, const Progress& progress) {
  // The index is checked by opening the file as a file; then everything is read front to back, as from a pipe.
  std::optional<InputFile> file, front_to_back;
  std::optional<InputStream> stream;
  if (path != "-") {
    file.emplace(path);  // the only opening by this name: a pipe's bytes come once
    open_kvz(file->reopen_path())->check_cost();
    front_to_back.emplace(file->reopen_path());
    stream.emplace(front_to_back->descriptor(), path);
  }
  const std::unique_ptr<KvzReader> reader = open_kvz(stream ? *stream : stdin_stream());
  if (path != "-") reader->use_tables(tables_beside(path));
  TolerantReader tolerant(*reader);
  std::vector<std::string> damage;
  const PartStep note = [&](Part& part) {
    if (const auto* line = std::any_cast<std::string>(&part.result)) damage.push_back(*line);
  };
  try {
    for_each_part(tolerant, {}, note, threads, progress);
  } catch (const Error& e) {
    if (e.code() == ErrorCode::limit || e.code() == ErrorCode::unsupported) throw;
    damage.push_back(e.what());
  }
  return damage;
}

}  // namespace kvzip
