// SPDX-License-Identifier: Apache-2.0
#include "formats/hdf5/hdf5_raw.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <iterator>

#include "codec/fail.hpp"
#include "codec/limits.hpp"
#include "formats/hdf5/hdf5.hpp"
#include "kvzip/trust.hpp"

namespace kvzip::hdf5 {
namespace {

constexpr std::size_t kHeapHeader = 16, kHeapObjectHeader = 16;

std::uint64_t round_up(std::uint64_t n, std::uint64_t to) {
  return (n + to - 1) / to * to;
}

void check_sizes(std::uint64_t address_bytes, std::uint64_t length_bytes) {
  if (address_bytes == 8 && length_bytes == 8) return;
  fail(ErrorCode::unsupported, "it has addresses of {} and lengths of {} bytes instead of 8", address_bytes,
       length_bytes);
}

/// The block at this address states its length, and the library makes room for it.
void check_driver(const RawFile& file, std::uint64_t address) {
  constexpr std::uint64_t kHead = 16;
  const Bytes head = file.read(address, kHead);
  Cursor in(head);
  in.skip(4);
  file.check(address + kHead, in.number(4));
}

struct Superblock {
  std::uint64_t base = 0, end = 0;  // of HDF5's bytes in the file
  std::uint64_t extension = kUndefined, driver = kUndefined, root = kUndefined;
};

/// HDF5 File Format Specification 3.0, II.A: versions 0 and 1, then 2 and 3. No value for what the library will refuse.
std::optional<Superblock> read_superblock(const InputFile& input) {
  constexpr std::uint64_t kMost = 96;
  Superblock out;
  out.base = find_superblock(input, 0);
  Bytes block(static_cast<std::size_t>(std::min(kMost, input.size() - out.base)));
  input.read_at(out.base, block);
  if (block.size() < 16) return std::nullopt;
  Cursor in(block);
  in.skip(8);
  const std::uint64_t version = in.number(1);
  if (version > 3) return std::nullopt;
  const bool old = version < 2;
  const std::size_t least = version == 0 ? 72 : version == 1 ? 76 : 44;
  if (block.size() < least) fail(ErrorCode::truncated, "it is truncated in the superblock of HDF5");
  if (old) in.skip(4);
  const std::uint64_t address_bytes = in.number(1);
  check_sizes(address_bytes, in.number(1));
  in.skip(old ? (version == 1 ? 13 : 9) : 1);
  const std::uint64_t stated_base = in.number(8);
  // In older files the free space's address, which is undefined; but the library takes it for the extension's.
  out.extension = in.number(8);
  // The library moves the end by as much as the superblock has been moved, and reads nothing behind it.
  const std::uint64_t end = in.number(8) - stated_base + out.base;
  if (old) out.driver = in.number(8);
  if (old) in.skip(8);
  out.root = in.number(8);
  if (end < out.base || end > input.size()) {
    fail(ErrorCode::truncated, "the file is truncated: it has {} bytes, and its superblock states {}", input.size(),
         end);
  }
  out.end = end;
  return out;
}

}  // namespace

void check_superblock(const InputFile& input) {
  const auto superblock = read_superblock(input);
  if (!superblock) return;
  const RawFile file(input);
  if (superblock->driver != kUndefined) check_driver(file, superblock->driver);
  if (superblock->extension != kUndefined) check_header(file, superblock->extension);
  check_header(file, superblock->root);
}

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

RawFile::RawFile(const InputFile& input) : input_(input), end_(input.size()) {
  const auto superblock = read_superblock(input);
  if (!superblock) return;
  base_ = superblock->base;
  end_ = superblock->end;
}

void RawFile::check(std::uint64_t address, std::uint64_t bytes) const {
  const std::uint64_t size = end_ - base_;
  if (address > size || bytes > size - address) {
    fail(ErrorCode::truncated, "an address inside it leads out of the file");
  }
}

void RawFile::count_stated(std::uint64_t bytes) const {
  if (__builtin_add_overflow(stated_, bytes, &stated_)) stated_ = kUndefined;
  if (stated_ <= limits::kHdf5FreeBytes || stated_ / limits::kHdf5Expansion <= size() || trusts_files()) return;
  fail(ErrorCode::limit, "with those before it, it states {} bytes in a file of {}: more than dumps do", stated_,
       size());
}

void RawFile::claim(std::uint64_t address, std::uint64_t bytes) const {
  check(address, bytes);
  if (bytes == 0) return;
  if (++structures_ > limits::kHdf5Structures)
    fail(ErrorCode::limit, "it has more than {} structures", limits::kHdf5Structures);
  const auto after = claimed_.lower_bound(address);
  const auto before = after == claimed_.begin() ? claimed_.end() : std::prev(after);
  const bool taken = (after != claimed_.end() && after->first < address + bytes) ||
                     (before != claimed_.end() && before->second > address);
  if (taken) fail(kBad, "two structures inside it share bytes");
  if (before != claimed_.end() && before->second == address) {
    before->second += bytes;
  } else {
    claimed_.emplace_hint(after, address, address + bytes);
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
  if (size > limits::kHdf5HeapBytes - loaded_)
    fail(ErrorCode::limit, "the file has more than {} MiB of text", limits::kHdf5HeapBytes >> 20);
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

namespace kvzip {

std::uint64_t find_superblock(const InputFile& input, std::uint64_t from) {
  constexpr std::uint64_t kSignature = 0x0a1a0a0d46444889, kFirstBlock = 512;  // "\x89HDF\r\n\x1a\n"
  std::array<std::byte, 8> signature{};
  for (std::uint64_t at = from; at < input.size() && input.size() - at >= signature.size();) {
    input.read_at(at, signature);
    if (hdf5::Cursor(signature).number(8) == kSignature) return at;
    if (at > input.size() / 2) break;
    at = at == 0 ? kFirstBlock : at * 2;
  }
  return input.size();
}

}  // namespace kvzip
