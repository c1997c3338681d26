// SPDX-License-Identifier: Apache-2.0
#include <memory>
#include <optional>
#include <utility>

#include "codec/fail.hpp"
#include "formats/kvz/kvz.hpp"
#include "formats/kvz/kvz_growing.hpp"
#include "formats/kvz/kvz_growth.hpp"
#include "formats/kvz/kvz_output.hpp"
#include "formats/kvz/kvz_salvage.hpp"
#include "formats/kvz/kvz_segments.hpp"
#include "formats/kvz/kvz_tables.hpp"

namespace kvzip {
namespace {

/// What is saved of a container that begins with another's tokens stands behind them.
void place_behind_base(Dump& dump, const KvzHeader& header) {
  constexpr std::string_view kFirst = "first_position";
  if (!header.base) return;
  std::erase_if(dump.attributes, [&](const Attribute& a) { return a.object.empty() && a.name == kFirst; });
  dump.attributes.push_back(
      {"", std::string(kFirst), {fmt::to_string(header.recognition.model.rope.first_position)}, {}, {}, {}});
}

/// Where what survives goes: a dump, a container, or nowhere.
class Rescue {
 public:
  /// `to`: the container; none where it is to be a dump, or nothing.
  Rescue(const RecoverOptions& options, std::optional<Destination> to, const SalvageReader& reader) {
    if (to) {
      header_ = reader.header();
      place_behind_base(header_->dump, *header_);
      header_->base.reset();  // what is written stands by itself
      std::erase_if(header_->user, [](const auto& pair) { return pair.first == kKey; });
      header_->user.emplace_back(kKey, "from a damaged container; what was lost is NaN, or 0 where no float is");
      to_ = std::move(to);
    } else if (!options.out.empty()) {
      saved_ = reader.dump();
      place_behind_base(saved_, reader.header());
      dump_ = create_writer(options.out, options.format, saved_, options.overwrite);
    }
  }

  void prepare(Part& part) const {
    if (dump_) dump_->prepare(part);
  }
  void take(const SalvageReader& reader, Part& part) {
    if (dump_) return dump_->append(part);
    if (!header_) return;
    if (!kvz_) kvz_.emplace(std::move(*to_), *header_, reader.stored_tables());  // the tables are known by now
    for (const Bytes& frame : part.coded) kvz_->append_frame(frame);
  }
  void finish(const SalvageReader& reader) {
    if (dump_) return dump_->finish();
    if (!header_) return;
    if (!kvz_) kvz_.emplace(std::move(*to_), *header_, reader.stored_tables());
    kvz_->finish({});
  }

 private:
  static constexpr const char* kKey = "recovered";
  Dump saved_;
  std::unique_ptr<DumpWriter> dump_;
  std::optional<KvzHeader> header_;
  std::optional<Destination> to_;
  std::optional<KvzOutput> kvz_;
};

std::optional<Destination> container_of(const RecoverOptions& options) {
  if (options.format != "kvz") return std::nullopt;
  return Destination(options.out, options.overwrite);
}

/// Values of the first tokens, which stand in the base.
std::uint64_t values_in_base(const KvzHeader& header) {
  std::uint64_t sum = 0;
  for (std::size_t t = 0; header.base && t < header.dump.tensors.size(); ++t) {
    const TensorInfo& info = header.dump.tensors[t];
    const TensorRole& role = header.recognition.tensors[t];
    if (role.role == Role::other) continue;
    const std::size_t axis = growing_axis(info, role);
    std::uint64_t values = header.base->tokens;
    bool fits = true;
    for (std::size_t d = 0; d < info.shape.size(); ++d) {
      fits = fits && (d == axis || !__builtin_mul_overflow(values, info.shape[d], &values));
    }
    if (!fits || __builtin_add_overflow(sum, values, &sum)) {
      fail(ErrorCode::limit, "its first {} tokens have more values than 64 bits can count", header.base->tokens);
    }
  }
  return sum;
}

/// Where something is written, values must be left, unless `any`.
KvzDamage recover(std::unique_ptr<SalvageReader> reader, const Tables& beside, const RecoverOptions& options,
                  std::optional<Destination> to, const Progress& progress, bool any = false) {
  reader->use_tables(beside);
  Rescue rescue(options, std::move(to), *reader);
  const PartStep prepare = [&](Part& part) { rescue.prepare(part); };
  const PartStep take = [&](Part& part) {
    reader->note(part);
    rescue.take(*reader, part);
  };
  for_each_part(*reader, prepare, take, options.threads, progress);
  KvzDamage damage = reader->damage();
  damage.base = reader->header().base;
  damage.base_values = values_in_base(reader->header());
  if (!any && damage.values > 0 && damage.lost == damage.values) {
    if (!options.out.empty()) fail(ErrorCode::corrupt, "not one of its values is left");
    return damage;
  }
  rescue.finish(*reader);
  return damage;
}

/// The prelude may be damaged, but not the header behind it.
std::uint64_t look_for_container(InputStream& in) {
  const ByteView first = in.peek(kPreludeBytes + kRecordHeaderBytes);
  if (begins_container(first)) return kUnbounded;
  if (first.size() < kPreludeBytes + kRecordHeaderBytes) {
    fail(ErrorCode::truncated, "{} bytes are no container", first.size());
  }
  RecordHeaderBytes header;
  std::ranges::copy(first.subspan(kPreludeBytes), header.begin());
  try {
    parse_record_header(header, std::nullopt);
  } catch (const Error&) {
    Prelude prelude;
    std::ranges::copy(first.first(kPreludeBytes), prelude.begin());
    check_prelude(prelude);
    throw;
  }
  return kUnbounded;
}

/// A container to which others were appended: each is rescued by itself into a file like it, which becomes the output.
class AppendedRescue {
 public:
  AppendedRescue(std::shared_ptr<const InputFile> file, const Tables& beside, const RecoverOptions& options)
      : file_(std::move(file)), beside_(beside), options_(options) {
    if (options.out.empty()) return;
    aside_.emplace(is_stream_output(options.out) ? temporary_directory() + "/container" : options.out);
    grown_.emplace(aside_->descriptor(), 0, options.out);
  }

  KvzDamage recover(const Segments& segments, const Progress& progress) {
    for (std::size_t s = 0; s < segments.all.size(); ++s) {
      const std::string name = s == 0 ? std::string() : fmt::format("appended container {}: ", s);
      try {
        add(segments.all[s], name, progress);
      } catch (Error& e) {
        if (s > 0 && e.code() == ErrorCode::invalid_argument) e.set_code(ErrorCode::corrupt);
        if (s > 0) e.add_where(fmt::format("appended container {}, from byte {} on", s, segments.all[s].begin));
        throw;
      }
    }
    const std::uint64_t rest = file_->size() - segments.end;
    if (segments.rest == Segments::Rest::cut) {
      all_.others.push_back(fmt::format("{} bytes at the end are of an append that was not finished", rest));
    } else if (rest > 0) {
      all_.holes.push_back({"what was appended last",
                            fmt::format("its {} bytes can no longer be told apart", rest),
                            {},
                            0,
                            segments.end});
    }
    if (aside_ && all_.values > 0 && all_.lost == all_.values) {
      fail(ErrorCode::corrupt, "not one of its values is left");
    }
    if (aside_) write(progress);
    return std::move(all_);
  }

 private:
  void add(const Segment& segment, const std::string& name, const Progress& progress) {
    InputStream stream = file_->stream(segment.begin, segment.bytes, file_->path());
    auto reader =
        open_salvage(stream, places_of_frames(segment_file(file_, segment)), aside_.has_value(), segment.bytes);
    std::vector<std::uint64_t> offsets, axes;
    const std::vector<std::size_t> growth = grow(*reader, offsets, axes);
    std::optional<Destination> to;
    if (grown_) to.emplace(grown_->sink());
    KvzDamage damage = kvzip::recover(std::move(reader), beside_, options_, std::move(to), progress, true);
    if (grown_) before_ = grown_->commit(before_);
    for (KvzHole& hole : damage.holes) {
      hole.name = name + hole.name;
      hole.offset += segment.begin;
      for (Slice& slice : hole.slices) {
        if (offsets[slice.tensor] > 0) slice.start[axes[slice.tensor]] += offsets[slice.tensor];
        slice.tensor = growth[slice.tensor];
      }
      all_.holes.push_back(std::move(hole));
    }
    for (const std::string& line : damage.others) all_.others.push_back(name + line);
    all_.values += damage.values;
    all_.lost += damage.lost;
    all_.tensors = dump_.tensors;
  }

  /// Adds a container's tensors to those before: which they go on, and where.
  std::vector<std::size_t> grow(const SalvageReader& reader, std::vector<std::uint64_t>& offsets,
                                std::vector<std::uint64_t>& axes) {
    const Dump& more = reader.dump();
    std::vector<std::size_t> growth(more.tensors.size());
    offsets.assign(growth.size(), 0);
    axes.assign(growth.size(), 0);
    if (!before_known_) {
      before_known_ = true;
      dump_ = more;
      roles_ = *reader.recognition();
      for (std::size_t t = 0; t < growth.size(); ++t) growth[t] = t;
      return growth;
    }
    growth = plan_growth(dump_, roles_, more, *reader.recognition());
    for (std::size_t t = 0; t < growth.size(); ++t) {
      axes[t] = growing_axis(more.tensors[t], roles_.tensors[growth[t]]);
      offsets[t] = grow_tensor(dump_.tensors[growth[t]], more.tensors[t], axes[t]);
    }
    return growth;
  }

  void write(const Progress& progress) {
    if (options_.format == "kvz") {
      constexpr std::uint64_t kStep = std::uint64_t{4} << 20;
      const InputFile made = aside_->input(options_.out);
      OutputFile out(options_.out, options_.overwrite);
      Bytes some;
      for (std::uint64_t at = 0; at < made.size(); at += some.size()) {
        some.resize(std::min(kStep, made.size() - at));
        made.read_at(at, some);
        out.append(some);
      }
      return out.finish();
    }
    const auto reader = open_kvz(aside_->input(options_.out));
    reader->use_tables(beside_);
    const auto writer = create_writer(options_.out, options_.format, reader->dump(), options_.overwrite);
    transcode(*reader, *writer, options_.threads, progress);
    writer->finish();
  }

  std::shared_ptr<const InputFile> file_;
  const Tables& beside_;
  const RecoverOptions& options_;
  std::optional<TemporaryFile> aside_;
  std::optional<GrowingFile> grown_;
  std::optional<Footer> before_;
  bool before_known_ = false;
  Dump dump_;
  Recognition roles_;
  KvzDamage all_;
};

}  // namespace

InputFile salvage_input(const std::string& path) {
  if (path != "-") return InputFile(path, look_for_container);
  refuse_terminal(stdin_stream());
  return InputFile::spool_stdin(look_for_container(stdin_stream()));
}

KvzDamage damage_of(InputStream& stream, unsigned threads, const Progress& progress) {
  look_for_container(stream);
  RecoverOptions nothing;
  nothing.threads = threads;
  return recover(open_salvage(stream, {}, false), {}, nothing, {}, progress);
}

KvzDamage recover_kvz(const std::string& path, const RecoverOptions& options, const Progress& progress) {
  const InputScope inputs;
  return recover_kvz(std::make_shared<const InputFile>(salvage_input(path)), path == "-" ? "" : path, options,
                     progress);
}

KvzDamage recover_kvz(const std::shared_ptr<const InputFile>& file, const std::string& path,
                      const RecoverOptions& options, const Progress& progress) {
  const bool keeps_frames = options.format == "kvz";
  Tables beside;
  if (!options.tables.empty()) {
    beside = read_tables(options.tables);
  } else if (!path.empty()) {
    beside = tables_beside(path);
  }
  const Segments segments = find_segments(*file);
  const bool unfinished = segments.rest != Segments::Rest::nothing && segments.rest != Segments::Rest::foreign;
  if (segments.all.size() > 1 || (segments.all.size() == 1 && unfinished)) {
    return AppendedRescue(file, beside, options).recover(segments, progress);
  }
  InputStream stream = file->stream(0, file->size(), file->path());
  auto places = places_of_frames(segment_file(file, {0, file->size()}));
  auto reader = open_salvage(stream, std::move(places), keeps_frames, file->size());
  return recover(std::move(reader), beside, options, container_of(options), progress);
}

}  // namespace kvzip
