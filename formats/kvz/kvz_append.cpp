// SPDX-License-Identifier: Apache-2.0
// Nothing is written over: a container without its footer follows the file's end and is flushed to the disk, and then
// its footer makes it a part of the file (man/kvz.5, "Appended containers").
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "codec/fail.hpp"
#include "formats/file_calls.hpp"
#include "formats/hdf5/hdf5.hpp"
#include "formats/kvz/kvz.hpp"
#include "formats/kvz/kvz_growing.hpp"
#include "formats/kvz/kvz_growth.hpp"
#include "formats/kvz/kvz_segments.hpp"
#include "formats/kvz/kvz_source.hpp"
#include "formats/parts.hpp"
#include "formats/text.hpp"

namespace kvzip {
namespace {

/// A tensor of the new dump that is to be stored, without the first entries of a list that the container has.
struct Growing {
  std::size_t tensor = 0;
  std::uint64_t skipped = 0;
};

/// Some tensors of another reader.
class Subset final : public DumpReader {
 public:
  Subset(DumpReader& inner, const Recognition& roles, std::vector<Growing> tensors)
      : inner_(inner), tensors_(std::move(tensors)), roles_(roles) {
    reads_through(inner);
    dump_.attributes = inner.dump().attributes;
    roles_.tensors.clear();
    for (const Growing& g : tensors_) {
      dump_.tensors.push_back(inner.dump().tensors[g.tensor]);
      if (g.skipped > 0) dump_.tensors.back().shape[0] -= g.skipped;
      roles_.tensors.push_back(roles.tensors[g.tensor]);
    }
    parts_ = DumpParts(dump_);
  }
  const Dump& dump() const override { return dump_; }
  const Recognition* recognition() const override { return &roles_; }
  std::uint64_t part_count() const override { return parts_.count(); }
  Part part(std::uint64_t index) const override { return parts_.part(dump_, index); }
  void fetch(Part& part) override { fetch_by_reading(*this, part); }
  void read(const Slice& slice, std::span<std::byte> out) override {
    Slice own = slice;
    const Growing& g = tensors_.at(slice.tensor);
    own.tensor = g.tensor;
    if (g.skipped > 0) own.start[0] += g.skipped;
    inner_.read(own, out);
  }

 private:
  DumpReader& inner_;
  std::vector<Growing> tensors_;
  Recognition roles_;
  Dump dump_;
  DumpParts parts_;
};

/// All of `a` is in `b`, at its front.
bool begins_with(DumpReader& b, std::size_t in_b, DumpReader& a, std::size_t in_a) {
  Bytes left, right;
  const ContiguousSplit split(a.dump().tensors[in_a], in_a, kPartBytes);
  for (std::uint64_t i = 0; i < split.count(); ++i) {
    Slice slice = split.slice(i);
    left.resize(slice_bytes(a.dump(), slice));
    right.resize(left.size());
    a.read(slice, left);
    slice.tensor = in_b;
    b.read(slice, right);
    if (left != right) return false;
  }
  return true;
}

/// Those of the new tensors that are to be stored: all with tokens, and of the others those that have an entry for each
/// token on both sides, of the new ones or of all. What else there is must be what the file has already.
std::vector<Growing> growing(DumpReader& file, DumpReader& more, const Recognition& roles) {
  const std::uint64_t before = tokens_of(file.dump(), *file.recognition()), added = tokens_of(more.dump(), roles);
  if (added == 0) fail(ErrorCode::invalid_argument, "it has no keys or values of new tokens");
  std::vector<Growing> out;
  for (std::size_t i = 0; i < more.dump().tensors.size(); ++i) {
    const TensorInfo& info = more.dump().tensors[i];
    if (info.name == kHdf5Frame) continue;  // an HDF5 file beside its tensors: that of the container stays
    const auto& known = file.dump().tensors;
    const auto found = std::ranges::find(known, info.name, &TensorInfo::name);
    const auto place = static_cast<std::size_t>(found - known.begin());
    const bool cache = roles.tensors[i].role != Role::other;
    if (cache || found == known.end()) {
      out.push_back({i});
      continue;
    }
    TensorInfo longer = *found;
    const bool list = !info.shape.empty() && info.shape.size() == longer.shape.size() && longer.shape[0] == before &&
                      dtype_bits(info.dtype) >= 8;
    if (list) longer.shape[0] = info.shape[0];
    const bool same = *found == info && begins_with(more, i, file, place);
    // Floats that are the same on both sides are a table, as of frequencies, that has as many entries by chance.
    if (list && info.shape[0] == added && !(same && is_codable_float(info.dtype))) {
      out.push_back({i});
    } else if (list && info.shape[0] - before == added && longer == info && begins_with(more, i, file, place)) {
      out.push_back({i, before});
    } else if (!same) {
      fail(ErrorCode::invalid_argument, "tensor {} has no entry for each token, and is not what the container has",
           quoted(info.name));
    }
  }
  return out;
}

FileDescriptor open_to_append(const std::string& path) {
  FileDescriptor file(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (file.get() < 0) fail_errno(path, "open");
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) fail_errno(path, "open");
  if (!S_ISREG(status.st_mode)) fail_in(path, ErrorCode::invalid_argument, "only a file can be appended to");
  if (::flock(file.get(), LOCK_EX | LOCK_NB) != 0) fail_in(path, ErrorCode::io, "another program appends to it");
  return file;
}

/// What was private stays private in the company of others.
void narrow_mode(int descriptor, const std::string& path, const InputList& inputs) {
  struct stat status {};
  if (::fstat(descriptor, &status) != 0) fail_errno(path, "open");
  InputAccess access = input_access();
  access.add(access_of(inputs));
  const unsigned mode = status.st_mode & 0777, allowed = output_mode(status.st_gid, mode, access) & mode;
  if (allowed != mode && ::fchmod(descriptor, allowed) != 0) fail_errno(path, "change the permissions");
}

InputFile reading(int descriptor, const std::string& path) {
  FileDescriptor copy(::dup(descriptor));
  if (copy.get() < 0) fail_errno(path, "open");
  return {std::move(copy), path};
}

Segments segments_of(int descriptor, const std::string& path) {
  return find_segments(reading(descriptor, path));
}

/// The unpacked bytes of the header that stands here.
std::uint64_t described_bytes(int descriptor, std::uint64_t begin, const std::string& path) {
  const RecordFile file(reading(descriptor, path));
  return file.header_at(begin + kPreludeBytes).decoded;
}

}  // namespace

std::uint64_t append_kvz(const std::string& path, DumpReader& more, const Recognition& roles, const KvzOptions& options,
                         unsigned threads, const Progress& progress) {
  const FileDescriptor file = open_to_append(path);
  const Segments segments = segments_of(file.get(), path);
  Footer before;
  std::vector<Growing> tensors;
  {
    // Refuses what is damaged, so that all segments are sound below.
    const auto known = open_kvz(reading(file.get(), path));
    if (known->description().base) {
      fail_in(path, ErrorCode::unsupported, "its first tokens are in another file, and nothing is appended to it");
    }
    tensors = growing(*known, more, roles);
    const Subset added(more, roles, tensors);
    plan_growth(known->dump(), *known->recognition(), added.dump(), *added.recognition());
    reading(file.get(), path).read_at(segments.end - before.size(), before);
  }
  Subset added(more, roles, tensors);
  KvzOptions fitted = options;
  fit_options(added, *added.recognition(), fitted, threads);
  narrow_mode(file.get(), path, more.inputs());
  const auto cut = [&] { return ::ftruncate(file.get(), static_cast<off_t>(segments.end)); };
  if (cut() != 0) fail_errno(path, "write");
  try {
    GrowingFile grown(file.get(), segments.end, path);
    const auto writer = create_kvz_writer(grown.sink(), added.dump(), *added.recognition(), fitted);
    transcode(added, *writer, threads, progress);
    writer->finish();
    require_inputs_unchanged();
    require_unchanged(more.inputs());
    check_room(segments, described_bytes(file.get(), segments.end, path));
    require_stored(file.get(), path);
    grown.commit(before);
    require_stored(file.get(), path);
    return grown.end();
  } catch (...) {
    // Should this fail, too, readers pass over what is unfinished.
    static_cast<void>(cut());
    throw;
  }
}

}  // namespace kvzip
