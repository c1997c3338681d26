// SPDX-License-Identifier: Apache-2.0
// What goes through the walk: a reader's own parts, or another's, whose slices are read one by one.
#include <algorithm>

#include "formats/inputs.hpp"
#include "formats/parts.hpp"
#include "formats/walk.hpp"
#include "kvzip/io.hpp"

namespace kvzip {
namespace {

/// Makes a part that went through before into a fresh one, which keeps its arrays.
void renew(Part& part, Part fresh) {
  fresh.data = std::move(part.data);
  part = std::move(fresh);
}

/// Source bytes, as parts are done.
class Meter {
 public:
  Meter(const Dump& dump, const Progress& progress) : progress_(progress) {
    for (const TensorInfo& tensor : dump.tensors) total_ += tensor.bytes();
  }
  void add(std::uint64_t bytes) {
    done_ += bytes;
    if (progress_) progress_(done_, total_);
  }

 private:
  const Progress& progress_;
  std::uint64_t done_ = 0, total_ = 0;
};

std::uint64_t source_bytes(const Dump& dump, const Part& part) {
  std::uint64_t bytes = 0;
  for (const Slice& slice : part.slices) bytes += slice.elements() * slice_unit(dump.tensors[slice.tensor]);
  return bytes;
}

/// Memory for the largest part, about: the elements, of two parts a thread, and three matrices of floats, in which
/// stages work. Of many parts some are looked at: they are alike.
template <typename PartAt>
std::uint64_t part_bytes(const Dump& dump, std::uint64_t parts, const PartAt& part_at) {
  constexpr std::uint64_t kLooks = 1024, kFloats = 3 * sizeof(float);
  double most = 0;
  for (std::uint64_t look = 0; look < std::min(parts, kLooks); ++look) {
    const std::uint64_t index = parts <= kLooks ? look : parts / kLooks * look;
    double bytes = 0;
    for (const Slice& slice : part_at(index).slices) {
      const double unit = static_cast<double>(2 * slice_unit(dump.tensors[slice.tensor]) + kFloats);
      bytes += static_cast<double>(slice.elements()) * unit;
    }
    most = std::max(most, bytes);
  }
  return most < 0x1p63 ? static_cast<std::uint64_t>(most) : std::uint64_t{1} << 63;
}

/// Visits after `expand`; counts what is merged.
void take_through(DumpReader& reader, Walk steps, const PartStep& expand, const PartStep& visit, const PartStep& merge,
                  unsigned threads, const Progress& progress) {
  Meter meter(reader.dump(), progress);
  steps.again = !reader.traits().once;
  steps.visit = [&](Part& part) {
    if (expand) expand(part);
    if (visit) visit(part);
  };
  steps.merge = [&](Part& part) {
    if (merge) merge(part);
    meter.add(source_bytes(reader.dump(), part));
  };
  walk(steps, threads);
  require_unchanged(reader.inputs());
}

}  // namespace

void for_each_part(DumpReader& reader, const PartStep& visit, const PartStep& merge, unsigned threads,
                   const Progress& progress) {
  Walk steps;
  steps.parts = reader.part_count();
  steps.part_bytes = part_bytes(reader.dump(), steps.parts, [&](std::uint64_t index) { return reader.part(index); });
  steps.fetch = [&](Part& part, std::uint64_t index) {
    renew(part, reader.part(index));
    part.index = index;
    reader.fetch(part);
  };
  take_through(
      reader, std::move(steps), [&](Part& part) { reader.expand(part); }, visit, merge, threads, progress);
}

void for_each_part(DumpReader& reader, const PartList& parts, const PartStep& visit, const PartStep& merge,
                   unsigned threads, const Progress& progress) {
  Walk steps;
  steps.parts = parts.count;
  steps.part_bytes = part_bytes(reader.dump(), steps.parts, parts.part);
  steps.fetch = [&](Part& part, std::uint64_t index) {
    renew(part, parts.part(index));
    part.data.resize(part.slices.size());
    for (std::size_t i = 0; i < part.slices.size(); ++i) {
      part.data[i].resize(slice_bytes(reader.dump(), part.slices[i]));
      reader.read(part.slices[i], part.data[i]);
    }
  };
  take_through(reader, std::move(steps), {}, visit, merge, threads, progress);
}

void transcode(DumpReader& in, DumpWriter& out, unsigned threads, const Progress& progress) {
  out.made_from(in.inputs());
  const PartStep prepare = [&](Part& part) { out.prepare(part); };
  const PartStep append = [&](Part& part) { out.append(part); };
  if (!out.plans()) return for_each_part(in, prepare, append, threads, progress);
  const PartList parts{out.part_count(), [&](std::uint64_t index) {
                         Part part = out.part(index);
                         part.index = index;
                         return part;
                       }};
  for_each_part(in, parts, prepare, append, threads, progress);
}

}  // namespace kvzip
