// SPDX-License-Identifier: Apache-2.0
#include "formats/hdf5/hdf5_frame.hpp"

#include <hdf5.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "codec/fail.hpp"
#include "formats/attribute_text.hpp"
#include "formats/file_calls.hpp"
#include "formats/hdf5/hdf5.hpp"
#include "formats/hdf5/hdf5_dataset.hpp"
#include "formats/hdf5/hdf5_raw.hpp"
#include "formats/kvz/kvz_records.hpp"

namespace kvzip::hdf5 {
namespace {

constexpr std::string_view kKeyName = "of";
constexpr std::size_t kNumber = sizeof(std::uint64_t);

void put(Bytes& out, std::uint64_t value) {
  const auto* bytes = reinterpret_cast<const std::byte*>(&value);
  out.insert(out.end(), bytes, bytes + sizeof value);
}

/// The library finds chunk n by going through all before it.
constexpr hsize_t kMostChunks = 1024;

bool add_chunks(Id dataset, std::vector<Hole>& holes) {
  hsize_t count = 0;
  const Handle space = own(H5Dget_space(dataset), H5Sclose, kBad, "cannot read its shape");
  check(H5Dget_num_chunks(dataset, space.get(), &count), kBad, "cannot count its chunks");
  if (count > kMostChunks) return false;
  for (hsize_t i = 0; i < count; ++i) {
    std::array<hsize_t, H5S_MAX_RANK + 1> offset{};
    unsigned mask = 0;
    haddr_t address = HADDR_UNDEF;
    hsize_t bytes = 0;
    check(H5Dget_chunk_info(dataset, space.get(), i, offset.data(), &mask, &address, &bytes), kBad,
          "cannot find a chunk");
    if (address != HADDR_UNDEF) holes.push_back({address, bytes});
  }
  return true;
}

}  // namespace

Frame::Frame(std::uint64_t file_bytes, const std::vector<Hole>& holes) {
  put(front_, file_bytes);
  put(front_, holes.size());
  for (const Hole& hole : holes) {
    put(front_, hole.begin);
    put(front_, hole.bytes);
  }
  size_ = front_.size();
  std::uint64_t position = 0;
  const auto keep = [&](std::uint64_t end) {
    if (end > position) pieces_.push_back({size_, position, end - position});
    size_ += end - position;
  };
  for (const Hole& hole : holes) {
    keep(hole.begin);
    position = hole.begin + hole.bytes;
  }
  keep(file_bytes);
}

void Frame::read(const InputFile& file, std::uint64_t at, std::span<std::byte> out) const {
  if (at < front_.size()) {
    const std::size_t count = std::min<std::size_t>(out.size(), front_.size() - at);
    std::memcpy(out.data(), front_.data() + at, count);
    out = out.subspan(count);
    at += count;
  }
  auto piece = std::upper_bound(pieces_.begin(), pieces_.end(), at,
                                [](std::uint64_t value, const Piece& p) { return value < p.at + p.bytes; });
  for (; !out.empty(); ++piece) {
    const std::uint64_t skip = at - piece->at;
    const std::size_t count = std::min<std::uint64_t>(out.size(), piece->bytes - skip);
    file.read_at(piece->begin + skip, out.first(count));
    out = out.subspan(count);
    at += count;
  }
}

std::optional<std::vector<Hole>> find_holes(Id file, const InputFile& input, const Contents& contents) {
  std::vector<Hole> holes;
  const std::uint64_t user_block = RawFile(input).user_block();
  for (std::size_t t = 0; t < contents.dump.tensors.size(); ++t) {
    const TensorInfo& info = contents.dump.tensors[t];
    const Handle dataset = own(H5Dopen2(file, ("/" + info.name).c_str(), H5P_DEFAULT), H5Dclose, kBad, "cannot open");
    if (!contents.stored[t].chunk.extent.empty()) {
      // Releases of the library differ in whether addresses of chunks count the user block.
      if (user_block != 0 || !add_chunks(dataset.get(), holes)) return std::nullopt;
      continue;
    }
    const auto begin = data_begin(dataset.get(), user_block);
    if (begin && info.bytes() > 0) holes.push_back({*begin, info.bytes()});
  }
  std::ranges::sort(holes, {}, &Hole::begin);
  std::uint64_t position = 0;
  for (const Hole& hole : holes) {
    if (hole.begin < position || hole.begin > input.size() || hole.bytes > input.size() - hole.begin) {
      return std::nullopt;
    }
    position = hole.begin + hole.bytes;
  }
  return holes;
}

std::optional<std::size_t> frame_of(const Dump& dump) {
  const auto found = std::ranges::find(dump.tensors, kHdf5Frame, &TensorInfo::name);
  const bool frame = found != dump.tensors.end() && found->dtype == DType::u8 && found->shape.size() == 1;
  if (!frame) return std::nullopt;
  return static_cast<std::size_t>(found - dump.tensors.begin());
}

Dump without_frame(const Dump& dump) {
  Dump out = dump;
  std::erase_if(out.tensors, [](const TensorInfo& t) { return t.name == kHdf5Frame; });
  std::erase_if(out.attributes, [](const Attribute& a) { return a.object == kHdf5Frame; });
  return out;
}

std::string frame_key(const Dump& dump) {
  const Dump rest = without_frame(dump);
  std::vector<std::string> lines;
  for (const TensorInfo& info : rest.tensors) {
    lines.push_back(fmt::format("{} {} {}", info.name, dtype_name(info.dtype), fmt::join(info.shape, ",")));
  }
  for (const Attribute& attribute : rest.attributes) {
    const MetadataEntry entry = metadata_entry(attribute);
    lines.push_back(entry.key + "=" + entry.value);
  }
  std::ranges::sort(lines);
  std::string all;
  for (const std::string& line : lines) all += line + '\n';
  return fmt::format("{:016x}", hash64(std::as_bytes(std::span(all))));
}

bool fits_frame(const Dump& dump) {
  const std::string key = frame_key(dump);
  return std::ranges::any_of(dump.attributes, [&](const Attribute& a) {
    return a.object == kHdf5Frame && a.name == kKeyName && a.strings == std::vector<std::string>{key};
  });
}

void expand_frame(const InputFile& frame, std::uint64_t most, const Output& to) {
  const auto bad = [] { fail(kBad, "tensor {} holds no HDF5 file", kHdf5Frame); };
  std::uint64_t at = 0;
  const auto number = [&] {
    std::uint64_t value = 0;
    if (frame.size() - at < kNumber) bad();
    frame.read_at(at, std::as_writable_bytes(std::span(&value, 1)));
    at += kNumber;
    return value;
  };
  const std::uint64_t file_bytes = number(), count = number();
  if (count > (frame.size() - at) / (2 * kNumber)) bad();
  std::vector<Hole> holes(count);
  std::uint64_t position = 0, missing = 0;
  for (Hole& hole : holes) {
    hole.begin = number();
    hole.bytes = number();
    if (hole.begin < position || hole.begin > file_bytes || hole.bytes > file_bytes - hole.begin) bad();
    position = hole.begin + hole.bytes;
    missing += hole.bytes;
  }
  if (missing > most || file_bytes - missing != frame.size() - at) bad();
  if (::ftruncate(to.descriptor(), static_cast<off_t>(file_bytes)) != 0) fail_errno(to.name(), "write");
  Bytes buffer;
  const auto copy = [&](std::uint64_t begin, std::uint64_t end) {
    constexpr std::uint64_t kStep = std::uint64_t{1} << 20;
    for (; begin < end; begin += buffer.size(), at += buffer.size()) {
      buffer.resize(std::min(kStep, end - begin));
      frame.read_at(at, buffer);
      write_all_at(to.descriptor(), begin, buffer, to.name());
    }
  };
  position = 0;
  for (const Hole& hole : holes) {
    copy(position, hole.begin);
    position = hole.begin + hole.bytes;
  }
  copy(position, file_bytes);
}

}  // namespace kvzip::hdf5
