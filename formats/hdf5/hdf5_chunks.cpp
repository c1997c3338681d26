// SPDX-License-Identifier: Apache-2.0
#include "formats/hdf5/hdf5_chunks.hpp"

#include <hdf5.h>
#include <zlib.h>

#include <algorithm>
#include <cstring>

#include "codec/fail.hpp"

namespace kvzip::hdf5 {
namespace {

constexpr std::size_t kChecksumBytes = 4;
constexpr std::uint64_t kMaxKept = 65536;  // of tiny chunks, the list weighs more than the bytes

using Extent = std::vector<std::uint64_t>;

std::uint32_t fletcher32(ByteView data) {
  constexpr std::size_t kRun = 360;  // pairs that can be added before the sums overflow
  const auto fold = [](std::uint32_t sum) { return (sum & 0xffff) + (sum >> 16); };
  std::uint32_t low = 0, high = 0;
  std::size_t at = 0;
  while (at < data.size()) {
    const std::size_t end = std::min(data.size(), at + 2 * kRun);
    for (; at < end; at += 2) {
      const auto second = at + 1 < data.size() ? static_cast<std::uint32_t>(data[at + 1]) : 0;
      low += static_cast<std::uint32_t>(data[at]) << 8 | second;
      high += low;
    }
    low = fold(low);
    high = fold(high);
  }
  return fold(high) << 16 | fold(low);
}

Bytes check_fletcher32(Bytes in) {
  if (in.size() < kChecksumBytes) fail(kBad, "a chunk is shorter than its checksum");
  std::uint32_t stored = 0;
  std::memcpy(&stored, in.data() + in.size() - kChecksumBytes, kChecksumBytes);
  in.resize(in.size() - kChecksumBytes);
  const std::uint32_t sum = fletcher32(in);
  // Files of HDF5 before 1.6.3 have the bytes of each half swapped.
  const std::uint32_t swapped = (sum & 0x00ff00ff) << 8 | (sum >> 8 & 0x00ff00ff);
  if (stored != sum && stored != swapped) fail(kBad, "a chunk's checksum is wrong");
  return in;
}

Bytes inflate_chunk(const Bytes& in, std::uint64_t most) {
  Bytes out(static_cast<std::size_t>(most) + 1);  // the spare byte shows that there is too much
  auto size = static_cast<uLongf>(out.size());
  const int result = ::uncompress(reinterpret_cast<Bytef*>(out.data()), &size,
                                  reinterpret_cast<const Bytef*>(in.data()), static_cast<uLong>(in.size()));
  if (result == Z_MEM_ERROR) throw std::bad_alloc();
  if (result != Z_OK || size > most) fail(kBad, "a chunk cannot be inflated");
  out.resize(size);
  return out;
}

/// Bytes come sorted by their place in the element; what is left over after whole elements stays at the end.
Bytes unshuffle(const Bytes& in, std::size_t unit) {
  if (unit < 2 || in.size() / unit < 2) return in;
  Bytes out(in.size());
  const std::size_t count = in.size() / unit;
  for (std::size_t b = 0; b < unit; ++b) {
    for (std::size_t i = 0; i < count; ++i) out[i * unit + b] = in[b * count + i];
  }
  std::copy(in.begin() + static_cast<std::ptrdiff_t>(count * unit), in.end(),
            out.begin() + static_cast<std::ptrdiff_t>(count * unit));
  return out;
}

/// Copies box `start`..`end` of the tensor from a chunk to a slice. Both are row-major boxes of it.
struct BoxCopy {
  const Extent &start, &end;
  const Extent &from_origin, &from_extent;
  const Extent &to_origin, &to_extent;
  std::size_t unit;

  void run(ByteView from, std::span<std::byte> to) const {
    const std::size_t last = start.size() - 1;
    const std::uint64_t row = (end[last] - start[last]) * unit;
    Extent at = start;
    for (std::size_t a = 0;;) {
      std::uint64_t source = 0, target = 0;
      for (a = 0; a <= last; ++a) {
        source = source * from_extent[a] + (at[a] - from_origin[a]);
        target = target * to_extent[a] + (at[a] - to_origin[a]);
      }
      std::memcpy(to.data() + target * unit, from.data() + source * unit, row);
      for (a = last; a > 0; --a) {
        if (++at[a - 1] < end[a - 1]) break;
        at[a - 1] = start[a - 1];
      }
      if (a == 0) return;
    }
  }
};

}  // namespace

bool has_plain_filters(const ChunkForm& form) {
  const auto plain = [](const ChunkFilter& filter) {
    return filter.id == H5Z_FILTER_DEFLATE || filter.id == H5Z_FILTER_SHUFFLE || filter.id == H5Z_FILTER_FLETCHER32;
  };
  return !form.filters.empty() && std::all_of(form.filters.begin(), form.filters.end(), plain);
}

Bytes unpack_chunk(const ChunkForm& form, Bytes stored, unsigned skipped) {
  for (std::size_t f = form.filters.size(); f-- > 0;) {
    if ((skipped >> f & 1) != 0) continue;
    const ChunkFilter& filter = form.filters[f];
    if (filter.id == H5Z_FILTER_FLETCHER32) stored = check_fletcher32(std::move(stored));
    if (filter.id == H5Z_FILTER_DEFLATE) stored = inflate_chunk(stored, form.bytes + kChecksumBytes);
    if (filter.id == H5Z_FILTER_SHUFFLE) stored = unshuffle(stored, filter.parameter);
  }
  if (stored.size() != form.bytes) fail(kBad, "a chunk of {} bytes unpacks to {}", form.bytes, stored.size());
  return stored;
}

Chunks::Chunks(const ChunkForm& form, std::uint64_t cache_bytes, Bytes fill)
    : form_(form),
      capacity_(std::clamp<std::uint64_t>(cache_bytes / form.bytes, 1, kMaxKept)),
      fill_(std::move(fill)) {}

void Chunks::read(Id dataset, const Slice& slice, std::span<std::byte> out) {
  const std::size_t rank = slice.start.size();
  const auto first = [&](std::size_t a) { return slice.start[a] / form_.extent[a] * form_.extent[a]; };
  Extent origin(rank), start(rank), end(rank);
  for (std::size_t a = 0; a < rank; ++a) origin[a] = first(a);
  for (std::size_t a = 0;;) {
    for (a = 0; a < rank; ++a) {
      start[a] = std::max(origin[a], slice.start[a]);
      end[a] = std::min(origin[a] + form_.extent[a], slice.start[a] + slice.count[a]);
    }
    BoxCopy{start, end, origin, form_.extent, slice.start, slice.count, fill_.size()}.run(chunk(dataset, origin), out);
    for (a = rank; a > 0; --a) {
      origin[a - 1] += form_.extent[a - 1];
      if (origin[a - 1] < slice.start[a - 1] + slice.count[a - 1]) break;
      origin[a - 1] = first(a - 1);
    }
    if (a == 0) return;
  }
}

const Bytes& Chunks::chunk(Id dataset, const Extent& origin) {
  const auto found = by_origin_.find(origin);
  if (found != by_origin_.end()) {
    kept_.splice(kept_.begin(), kept_, found->second);
    return kept_.front().bytes;
  }
  const std::uint64_t size = stored_bytes(dataset, origin);
  if (size == 0) return blank();
  Bytes bytes = load(dataset, origin, size);
  while (kept_.size() >= capacity_) {
    by_origin_.erase(kept_.back().origin);
    kept_.pop_back();
  }
  kept_.push_front({origin, std::move(bytes)});
  by_origin_.emplace(origin, kept_.begin());
  return kept_.front().bytes;
}

/// Bytes of a stored chunk; 0 when the file does not have it.
std::uint64_t Chunks::stored_bytes(Id dataset, const std::vector<std::uint64_t>& origin) const {
  const std::vector<hsize_t> at(origin.begin(), origin.end());
  hsize_t size = 0;
  if (H5Dget_chunk_storage_size(dataset, at.data(), &size) < 0) {
    if (is_unallocated()) return 0;
    // The next call tells chunks that are not there from others in any release, but looks at all chunks.
    haddr_t address = HADDR_UNDEF;
    unsigned skipped = 0;
    check(H5Dget_chunk_info_by_coord(dataset, at.data(), &skipped, &address, &size), kBad, "cannot find a chunk");
    if (address != HADDR_UNDEF) fail(kBad, "cannot find a chunk");
    return 0;
  }
  // Twice what any of the filters can make of a chunk.
  if (size > 2 * form_.bytes + 1024) fail(kBad, "a chunk of {} bytes takes {}", form_.bytes, size);
  return size;
}

Bytes Chunks::load(Id dataset, const Extent& origin, std::uint64_t size) const {
  const std::vector<hsize_t> at(origin.begin(), origin.end());
  Bytes stored(static_cast<std::size_t>(size));
  std::uint32_t skipped = 0;
  check(H5Dread_chunk(dataset, H5P_DEFAULT, at.data(), &skipped, stored.data()), kBad, "cannot read a chunk");
  return unpack_chunk(form_, std::move(stored), skipped);
}

const Bytes& Chunks::blank() {
  if (blank_.empty()) {
    blank_.resize(static_cast<std::size_t>(form_.bytes));
    for (std::size_t i = 0; i < blank_.size(); i += fill_.size()) {
      std::copy(fill_.begin(), fill_.end(), blank_.begin() + static_cast<std::ptrdiff_t>(i));
    }
  }
  return blank_;
}

}  // namespace kvzip::hdf5
