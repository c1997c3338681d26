// SPDX-License-Identifier: Apache-2.0
// Files are read with positioned reads and never mapped: another process may cut a mapped file, which would end this
// one.
#include "formats/placed.hpp"

#include "codec/fail.hpp"
#include "formats/text.hpp"

namespace kvzip {

void PlacedReader::place(Dump dump, std::vector<std::uint64_t> begins) {
  dump_ = std::move(dump);
  begins_ = std::move(begins);
  parts_ = DumpParts(dump_);
}

void PlacedReader::fetch(Part& part) {
  part.data.resize(part.slices.size());
  for (std::size_t i = 0; i < part.slices.size(); ++i) {
    part.data[i].resize(slice_bytes(dump_, part.slices[i]));
    read(part.slices[i], part.data[i]);
  }
}

void PlacedReader::read(const Slice& slice, std::span<std::byte> out) {
  check_slice(dump_, slice, out.size());
  const TensorInfo& info = dump_.tensors[slice.tensor];
  const std::uint64_t unit = slice_unit(info), begin = begins_[slice.tensor];
  const ReadAt read_at = [&](std::uint64_t offset, std::span<std::byte> to) { file_.read_at(offset, to); };
  RunReader runs(read_at, out);
  for_each_run(slice_shape(info), slice, [&](std::uint64_t from, std::uint64_t to, std::uint64_t count) {
    runs.add(begin + from * unit, to * unit, count * unit);
  });
  runs.flush();
}

void PlacedWriter::place(std::uint64_t begin) {
  missing_.push_back(dump_.tensors[begins_.size()].bytes());
  begins_.push_back(begin);
}

void PlacedWriter::append(Part& part) {
  if (part.slices.size() != part.data.size()) {
    fail(ErrorCode::invalid_argument, "part {}: {} slices with data for {}", part.index, part.slices.size(),
         part.data.size());
  }
  for (std::size_t i = 0; i < part.slices.size(); ++i) write(part.slices[i], part.data[i]);
}

void PlacedWriter::finish() {
  for (std::size_t i = 0; i < missing_.size(); ++i) {
    if (missing_[i] == 0) continue;
    fail_in(file_.path(), ErrorCode::invalid_argument, "tensor {}: {} bytes were never written",
            quoted(dump_.tensors[i].name), missing_[i]);
  }
  complete();
  file_.finish();
}

void PlacedWriter::write(const Slice& slice, ByteView data) {
  check_slice(dump_, slice, data.size());
  const TensorInfo& info = dump_.tensors[slice.tensor];
  if (data.size() > missing_[slice.tensor]) {
    fail_in(file_.path(), ErrorCode::invalid_argument, "tensor {}: bytes were written twice", quoted(info.name));
  }
  missing_[slice.tensor] -= data.size();
  const std::uint64_t unit = slice_unit(info), begin = begins_[slice.tensor];
  for_each_run(slice_shape(info), slice, [&](std::uint64_t to, std::uint64_t from, std::uint64_t count) {
    const ByteView bytes = data.subspan(from * unit, count * unit);
    file_.write_at(begin + to * unit, bytes);
    wrote(slice.tensor, to * unit, bytes);
  });
}

}  // namespace kvzip
