// SPDX-License-Identifier: Apache-2.0
#include "formats/hdf5/hdf5_raw.hpp"

#include <hdf5.h>

#include <algorithm>
#include <cstring>

#include "codec/fail.hpp"

namespace kvzip::hdf5 {
namespace {

constexpr std::uint64_t kHeapBytes = std::uint64_t{1} << 27;
constexpr std::size_t kHeapHeader = 16, kHeapObjectHeader = 16;

std::uint64_t round_up(std::uint64_t n, std::uint64_t to) {
  return (n + to - 1) / to * to;
}

}  // namespace

std::uint64_t Cursor::number(std::size_t bytes) {
  const Cursor field = take(bytes);
  std::uint64_t value = 0;
  for (std::size_t i = bytes; i-- > 0;) value = value << 8 | static_cast<std::uint64_t>(field.bytes_[i]);
  return value;
}

Cursor Cursor::take(std::uint64_t bytes) {
  if (bytes > bytes_.size()) fail(kBad, "a length inside an object leads out of it");
  const Cursor field(bytes_.first(static_cast<std::size_t>(bytes)));
  bytes_ = bytes_.subspan(static_cast<std::size_t>(bytes));
  return field;
}

void Cursor::skip_name(std::size_t round) {
  const auto end = std::find(bytes_.begin(), bytes_.end(), std::byte{0});
  skip(round_up(static_cast<std::uint64_t>(end - bytes_.begin()) + 1, round));
}

RawFile::RawFile(const InputFile& input, Id file) : input_(input) {
  const Handle options = own(H5Fget_create_plist(file), H5Pclose, kBad, "cannot read the superblock");
  hsize_t userblock = 0;
  std::size_t address_bytes = 0, length_bytes = 0;
  hdf5::check(H5Pget_userblock(options.get(), &userblock), kBad, "cannot read the superblock");
  hdf5::check(H5Pget_sizes(options.get(), &address_bytes, &length_bytes), kBad, "cannot read the superblock");
  if (address_bytes != 8 || length_bytes != 8) {
    fail(ErrorCode::unsupported, "it has addresses of {} and lengths of {} bytes instead of 8", address_bytes,
         length_bytes);
  }
  base_ = userblock;
}

void RawFile::check(std::uint64_t address, std::uint64_t bytes) const {
  const std::uint64_t size = input_.size();
  if (base_ > size || address > size - base_ || bytes > size - base_ - address) {
    fail(ErrorCode::truncated, "an address inside it leads out of the file");
  }
}

Bytes RawFile::read(std::uint64_t address, std::uint64_t bytes) const {
  check(address, bytes);
  Bytes out(static_cast<std::size_t>(bytes));
  input_.read_at(base_ + address, out);
  return out;
}

const Heap::Collection& Heap::load(std::uint64_t address) {
  const auto found = collections_.find(address);
  if (found != collections_.end()) return found->second;
  const Bytes header = file_.read(address, kHeapHeader);
  Cursor fields(header);
  constexpr std::uint64_t kSignature = 0x4c4f4347;  // "GCOL"
  if (fields.number(4) != kSignature || fields.number(4) != 1) fail(kBad, "there is no heap where its text should be");
  const std::uint64_t size = fields.number(8);
  if (size < kHeapHeader) fail(kBad, "the heap of its text has no size");
  if (size > kHeapBytes - loaded_) fail(ErrorCode::limit, "the file has more than 128 MiB of text");
  loaded_ += size;
  Collection& out = collections_[address];
  out.bytes = file_.read(address, size);
  Cursor rest(out.bytes);
  rest.skip(kHeapHeader);
  while (rest.left() >= kHeapObjectHeader) {
    const std::uint64_t index = rest.number(2);
    rest.skip(6);
    const std::uint64_t bytes = rest.number(8);
    if (index == 0) break;  // the free space at the end
    Cursor object = rest.take(bytes);
    rest.skip(std::min<std::uint64_t>(round_up(bytes, 8) - bytes, rest.left()));
    out.objects.emplace(index, object.rest());
  }
  return out;
}

std::string Heap::text(std::uint64_t length, std::uint64_t address, std::uint64_t index) {
  if (length == 0 || address == 0) return {};
  const Collection& collection = load(address);
  const auto found = collection.objects.find(index);
  if (found == collection.objects.end() || found->second.size() < length) fail(kBad, "its text is not in the heap");
  const ByteView bytes = found->second.first(static_cast<std::size_t>(length));
  // C strings to every reader: what follows a NUL is not seen.
  const auto end = std::find(bytes.begin(), bytes.end(), std::byte{0});
  std::string text(static_cast<std::size_t>(end - bytes.begin()), '\0');
  std::memcpy(text.data(), bytes.data(), text.size());
  return text;
}

}  // namespace kvzip::hdf5
