// SPDX-License-Identifier: Apache-2.0
// Any bytes, read as a collection, give an Error or members that lie one behind the other inside the file, under names
// of their own, each a container that opens by its name. What is written of names and sizes is read again.
// An input's last byte says whether the checksums of headers are made right first, so that the fuzzer gets behind them.
#include <fmt/format.h>

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <set>
#include <string>

#include "codec/bytes.hpp"
#include "formats/collection.hpp"
#include "formats/format_table.hpp"
#include "formats/tar_header.hpp"
#include "kvzip/error.hpp"

namespace {

using namespace kvzip;

/// Every block that calls itself a header: six octal digits, a zero and a space, of the sum of its bytes with spaces in
/// their place (POSIX.1-2017, pax, "ustar Interchange Format").
void repair(Bytes& bytes) {
  constexpr std::size_t kChecksum = 148, kDigits = 6;
  for (std::size_t at = 0; at + kTarBlock <= bytes.size(); at += kTarBlock) {
    const std::span<std::byte> block = std::span(bytes).subspan(at, kTarBlock);
    if (!is_tar(block)) continue;
    std::fill_n(&block[kChecksum], 8, std::byte{' '});
    unsigned sum = 0;
    for (const std::byte b : block) sum += std::to_integer<unsigned>(b);
    const std::string text = fmt::format("{:06o}", sum);
    for (std::size_t i = 0; i < kDigits; ++i) block[kChecksum + i] = static_cast<std::byte>(text[i]);
    block[kChecksum + kDigits] = std::byte{0};
  }
}

void check_places(const std::vector<CollectionMember>& members, std::uint64_t size) {
  std::uint64_t end = 0;
  std::set<std::string> names;
  for (const CollectionMember& member : members) {
    if (member.begin < end + kTarBlock || member.begin > size || member.bytes > size - member.begin) std::abort();
    if (member.name.empty() || member.name.find('/') != std::string::npos) std::abort();
    if (!names.insert(member.name).second) std::abort();
    end = member.begin + member.bytes;
  }
}

void check_headers(const CollectionMember& member) {
  const TarHeader header = parse_tar_header(make_tar_header({member.name, member.bytes}));
  if (header.name != member.name.substr(0, kTarName) || header.bytes != member.bytes) std::abort();
  if (parse_pax(make_pax_name(member.name)).name != member.name) std::abort();
}

/// As a command reads it: its bytes are those of the archive, and where it is a sound container, its values.
void read_member(const std::string& path, const CollectionMember& member, ByteView archive) {
  const InputFile file(path + "/" + member.name);
  Bytes bytes(member.bytes);
  file.read_at(0, bytes);
  if (file.size() != member.bytes ||
      !std::equal(bytes.begin(), bytes.end(), archive.begin() + static_cast<std::ptrdiff_t>(member.begin))) {
    std::abort();
  }
  try {
    const auto reader = open_reader(file.path());
    for (std::uint64_t i = 0; i < reader->part_count(); ++i) {
      Part part = reader->part(i);
      reader->fetch(part);
      reader->expand(part);
    }
  } catch (const Error&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr std::size_t kOpened = 8;  // each is looked for from the start
  if (size == 0) return 0;
  const ByteView input(reinterpret_cast<const std::byte*>(data), size - 1);
  Bytes bytes(input.begin(), input.end());
  if (data[size - 1] % 2 == 0) repair(bytes);
  const bool begins = begins_collection(ByteView(bytes).first(std::min(bytes.size(), kProbeBytes)));
  std::vector<CollectionMember> members;
  try {
    members = read_collection(InputFile(bytes, "input"));
  } catch (const Error&) {
    return 0;
  }
  check_places(members, bytes.size());
  if (members.empty() || !begins) {
    // Records about the first member may be longer than what is looked at.
    if (!members.empty() && members[0].begin < kProbeBytes - 8) std::abort();
    return 0;
  }
  const FileDescriptor fd(::memfd_create("fuzz", 0));
  if (::write(fd.get(), bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) return 0;
  const std::string path = fmt::format("/proc/self/fd/{}", fd.get());
  for (const CollectionMember& member : members) check_headers(member);
  for (std::size_t i = 0; i < std::min(members.size(), kOpened); ++i) read_member(path, members[i], bytes);
  return 0;
}
