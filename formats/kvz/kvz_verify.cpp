// SPDX-License-Identifier: Apache-2.0
// Checks a container front to back. A file is read as its readers would; what is wrong with it, and all of a pipe, is
// found by reading on after damage.
#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "formats/file.hpp"
#include "formats/kvz/kvz.hpp"
#include "formats/kvz/kvz_segments.hpp"
#include "formats/kvz/kvz_tables.hpp"
#include "kvzip/error.hpp"
#include "kvzip/recover.hpp"

namespace kvzip {
namespace {

/// What a file's readers say of it: in any order, by its index, and front to back. Errors other than damage are thrown.
std::optional<Error> damage_for_readers(const std::shared_ptr<const InputFile>& file, const std::string& path,
                                        const Tables& beside, unsigned threads, const Progress& progress) {
  try {
    open_kvz(segment_file(file, {0, file->size()}), path)->check_cost();
    const Segments segments = find_segments(*file);
    for (const Segment& segment : segments.all) {
      InputStream stream = file->stream(segment.begin, segment.bytes, file->path());
      const std::unique_ptr<KvzReader> reader = open_kvz(stream, segment.begin > 0, segment.begin == 0);
      reader->use_tables(beside);
      for_each_part(*reader, {}, {}, threads, progress);
    }
    if (segments.end == file->size()) return {};
    const std::uint64_t rest = file->size() - segments.end;
    return Error(ErrorCode::corrupt, fmt::format("{} bytes at the end are of an append that was not finished", rest));
  } catch (const Error& e) {
    if (e.code() != ErrorCode::corrupt && e.code() != ErrorCode::truncated) throw;
    return e;
  }
}

/// The tokens of another container cannot be checked where nobody knows the folder.
void refuse_shared(InputStream& in) {
  const ByteView first = in.peek(kPreludeBytes);
  Prelude prelude;
  if (first.size() < prelude.size()) return;
  std::ranges::copy(first, prelude.begin());
  try {
    check_prelude(prelude);
  } catch (const Error& e) {
    if (e.code() == ErrorCode::unsupported) throw;
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

/// Without the name of the file, which every line is about.
std::string said_of(const Error& error, const std::string& path) {
  if (error.file() != path) return error.what();
  return error.where().empty() ? error.message() : error.where() + ": " + error.message();
}

}  // namespace

std::vector<std::string> verify_kvz(const std::string& path, unsigned threads, const Progress& progress) {
  RecoverOptions nothing;
  nothing.threads = threads;
  const InputScope inputs;
  if (path == "-") {
    refuse_terminal(stdin_stream());
    refuse_shared(stdin_stream());
  }
  std::optional<InputFile> whole = path == "-" ? InputFile::whole_stdin() : salvage_input(path);
  if (!whole) {
    const KvzDamage damage = damage_of(stdin_stream(), threads, progress);
    if (damage.followed && damage.holes.empty() && damage.others.size() == 1) {
      fail(ErrorCode::unsupported, "{}: one that others were appended to is read from a file", damage.others[0]);
    }
    return lines_of(damage);
  }
  const auto file = std::make_shared<const InputFile>(*std::move(whole));
  const std::string place = path == "-" ? "" : path;
  const Tables beside = place.empty() ? Tables() : tables_beside(place);
  const std::optional<Error> said = damage_for_readers(file, place, beside, threads, progress);
  if (!said) return {};
  std::vector<std::string> lines;
  try {
    lines = lines_of(recover_kvz(file, place, nothing, progress));
  } catch (const Error&) {
    throw *said;  // nothing more can be known of it
  }
  // Most of what readers refuse is among what was found; what contradicts itself may be known to them alone.
  const auto known = [&](const std::string& line) { return line.ends_with(said->message()); };
  if (std::none_of(lines.begin(), lines.end(), known)) lines.insert(lines.begin(), said_of(*said, file->path()));
  return lines;
}

}  // namespace kvzip
