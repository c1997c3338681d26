// SPDX-License-Identifier: Apache-2.0
// Checks a container front to back. A file is read as its readers would; what is wrong with it, and all of a pipe, is
// found by reading on after damage.
#include <fmt/format.h>

#include <exception>
#include <optional>

#include "formats/file.hpp"
#include "formats/kvz/kvz.hpp"
#include "formats/kvz/kvz_tables.hpp"
#include "kvzip/error.hpp"
#include "kvzip/recover.hpp"

namespace kvzip {
namespace {

/// The error that a file's readers end with: in any order, by its index, and front to back. fail(limit) and
/// fail(unsupported) are no damage.
std::exception_ptr failure_of_readers(const std::string& path, const Tables& beside, unsigned threads,
                                      const Progress& progress) {
  try {
    const InputFile file(path);
    open_kvz(InputFile(file.reopen_path()))->check_cost();
    const InputFile front_to_back(file.reopen_path());
    InputStream stream(front_to_back.descriptor(), path);
    const std::unique_ptr<KvzReader> reader = open_kvz(stream);
    reader->use_tables(beside);
    for_each_part(*reader, {}, {}, threads, progress);
    return {};
  } catch (const Error& e) {
    if (e.code() != ErrorCode::corrupt && e.code() != ErrorCode::truncated) throw;
    return std::current_exception();
  }
}

std::vector<std::string> lines_of(const KvzDamage& damage) {
  std::vector<std::string> lines;
  for (const KvzHole& hole : damage.holes) {
    lines.push_back(fmt::format("{} (byte {}): {}", hole.name, hole.offset, hole.why));
  }
  lines.insert(lines.end(), damage.others.begin(), damage.others.end());
  return lines;
}

}  // namespace

std::vector<std::string> verify_kvz(const std::string& path, unsigned threads, const Progress& progress) {
  RecoverOptions nothing;
  nothing.threads = threads;
  if (path == "-") return lines_of(recover_kvz(path, nothing, progress));
  const InputFile file(path);  // a pipe's bytes come once
  const std::string again = file.reopen_path();
  const std::exception_ptr failure = failure_of_readers(again, tables_beside(path), threads, progress);
  if (!failure) return {};
  try {
    const std::vector<std::string> lines = lines_of(recover_kvz(again, nothing, progress));
    if (!lines.empty()) return lines;
  } catch (const Error& e) {
    if (e.code() != ErrorCode::corrupt && e.code() != ErrorCode::truncated) throw;
  }
  std::rethrow_exception(failure);
}

}  // namespace kvzip
