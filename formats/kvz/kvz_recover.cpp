// SPDX-License-Identifier: Apache-2.0
#include <memory>
#include <optional>
#include <utility>

#include "codec/fail.hpp"
#include "formats/kvz/kvz_output.hpp"
#include "formats/kvz/kvz_salvage.hpp"
#include "formats/kvz/kvz_tables.hpp"

namespace kvzip {
namespace {

/// Where what survives goes: a dump, a container, or nowhere.
class Rescue {
 public:
  Rescue(const RecoverOptions& options, const SalvageReader& reader) {
    if (options.format == "kvz") {
      header_ = reader.header();
      std::erase_if(header_->user, [](const auto& pair) { return pair.first == kKey; });
      header_->user.emplace_back(kKey, "from a damaged container; what was lost is NaN, or 0 where no float is");
      to_.emplace(options.out, options.overwrite);
    } else if (!options.out.empty()) {
      dump_ = create_writer(options.out, options.format, reader.dump(), options.overwrite);
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
  std::unique_ptr<DumpWriter> dump_;
  std::optional<KvzHeader> header_;
  std::optional<Destination> to_;
  std::optional<KvzOutput> kvz_;
};

KvzDamage recover(std::unique_ptr<SalvageReader> reader, const Tables& beside, const RecoverOptions& options,
                  const Progress& progress) {
  reader->use_tables(beside);
  Rescue rescue(options, *reader);
  const PartStep prepare = [&](Part& part) { rescue.prepare(part); };
  const PartStep take = [&](Part& part) {
    reader->note(part);
    rescue.take(*reader, part);
  };
  for_each_part(*reader, prepare, take, options.threads, progress);
  KvzDamage damage = reader->damage();
  if (damage.values > 0 && damage.lost == damage.values) {
    if (!options.out.empty()) fail(ErrorCode::corrupt, "not one of its values is left");
    return damage;
  }
  rescue.finish(*reader);
  return damage;
}

}  // namespace

KvzDamage recover_kvz(const std::string& path, const RecoverOptions& options, const Progress& progress) {
  const bool keeps_frames = options.format == "kvz";
  Tables beside;
  if (!options.tables.empty()) beside = read_tables(options.tables);
  if (path == "-") return recover(open_salvage(stdin_stream(), {}, keeps_frames), beside, options, progress);
  const InputFile file(path);  // the only opening by this name: a pipe's bytes come once
  if (options.tables.empty()) beside = tables_beside(path);
  const InputFile front_to_back(file.reopen_path());
  InputStream stream(front_to_back.descriptor(), path);
  auto reader = open_salvage(stream, places_of_frames(InputFile(file.reopen_path())), keeps_frames, file.size());
  return recover(std::move(reader), beside, options, progress);
}

}  // namespace kvzip
