// SPDX-License-Identifier: Apache-2.0
// Any bytes, read as a container by its index and front to back, give Errors or values; both ways agree on the values,
// and so does recovering of what is sound.
// An input's last byte says whether checksums are made right first, so that the fuzzer gets behind them.
#include <fmt/format.h>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <optional>

#include "formats/file.hpp"
#include "formats/kvz/kvz.hpp"
#include "formats/kvz/kvz_pages.hpp"
#include "formats/kvz/kvz_salvage.hpp"
#include "kvzip/error.hpp"
#include "tests/support/container_parts.hpp"

namespace {

using namespace kvzip;

/// One container; headers are plain text in what the fuzzer keeps, so that it can change them.
Bytes repaired(std::vector<test::RawRecord> records, ByteView prelude, const std::optional<std::uint64_t>& before) {
  for (test::RawRecord& r : records) {
    if (r.type == test::record_type(RecordType::index) || r.type == test::record_type(RecordType::end)) {
      r.payload.clear();
      r.flags = 0;
    }
  }
  Bytes out = test::put_together(records, test::load<std::uint8_t>(prelude, 10),
                                 test::load<std::uint32_t>(prelude, 12) & (kFeatures | kSharedFeature));
  Footer footer;
  const auto end = out.end() - static_cast<std::ptrdiff_t>(footer.size());
  std::copy(end, out.end(), footer.begin());
  FooterInfo info = parse_footer(footer);
  info.before = before;
  footer = make_footer(info);
  std::copy(footer.begin(), footer.end(), end);
  return out;
}

/// And what was appended to it.
Bytes repaired(ByteView file) {
  const Prelude magic = make_prelude({});
  Bytes out;
  std::optional<std::uint64_t> before;
  do {
    std::size_t taken = kPreludeBytes + kFooterBytes;
    auto records = test::take_apart(file);
    for (const test::RawRecord& r : records) taken += kRecordHeaderBytes + r.payload.size() + kRecordTailBytes;
    const Bytes one =
        repaired(std::move(records), file.first(std::min<std::size_t>(file.size(), kPreludeBytes)), before);
    out.insert(out.end(), one.begin(), one.end());
    before = hash64(ByteView(one).last(kFooterBytes));
    file = file.subspan(std::min(taken, file.size()));
  } while (file.size() >= kPreludeBytes && std::equal(magic.begin(), magic.begin() + 8, file.begin()));
  return out;
}

/// What inputs may name as the container that their first tokens are in: /proc/self/fd/500, beside the input itself.
void open_base() {
  static const FileDescriptor base(::open(KVZIP_TEST_DIR "/fuzz/base.kvz", O_RDONLY | O_CLOEXEC));
  if (base.get() < 0 || ::dup2(base.get(), 500) != 500) std::abort();
}

/// The hash of all values; none when something is damaged.
std::optional<std::uint64_t> hash_of_values(KvzReader& reader) {
  std::uint64_t hash = 0;
  for (std::uint64_t i = 0; i < reader.part_count(); ++i) {
    Part part = reader.part(i);
    reader.fetch(part);
    reader.expand(part);
    for (std::size_t s = 0; s < part.slices.size(); ++s) {
      const Slice& slice = part.slices[s];
      if (part.data.at(s).size() != slice.elements() * slice_unit(reader.dump().tensors.at(slice.tensor))) std::abort();
      hash = hash * 31 + hash64(part.data[s]);
    }
  }
  return hash;
}

/// What is wrong with digests is nothing to the values.
void find_pages(int fd) {
  try {
    find_kvz_pages(InputFile(fmt::format("/proc/self/fd/{}", fd)));
  } catch (const Error&) {
    return;
  }
}

std::optional<std::uint64_t> read_by_index(int fd, bool& opens) {
  try {
    const auto reader = open_kvz(fmt::format("/proc/self/fd/{}", fd));
    opens = true;
    const auto hash = hash_of_values(*reader);
    reader->summary();
    find_pages(fd);
    if (reader->part_count() != 0) {
      const Slice slice = reader->part(reader->part_count() - 1).slices[0];
      Bytes out(slice.elements() * slice_unit(reader->dump().tensors[slice.tensor]));
      reader->read(slice, out);
    }
    return hash;
  } catch (const Error&) {
    return std::nullopt;
  }
}

std::optional<std::uint64_t> read_as_stream(int fd) {
  try {
    InputStream stream(fd, "input");
    const auto reader = open_kvz(stream);
    return hash_of_values(*reader);
  } catch (const Error&) {
    return std::nullopt;
  }
}

/// What survives of it, with holes filled; a hash only where there are none.
std::optional<std::uint64_t> recover_all(int fd, bool keeps_frames) {
  try {
    InputStream stream(fd, "input");
    const auto reader =
        open_salvage(stream, places_of_frames(InputFile(fmt::format("/proc/self/fd/{}", fd))), keeps_frames);
    std::uint64_t hash = 0;
    for (std::uint64_t i = 0; i < reader->part_count(); ++i) {
      Part part = reader->part(i);
      reader->fetch(part);
      reader->expand(part);
      reader->note(part);
      for (const Bytes& data : part.data) hash = hash * 31 + hash64(data);
    }
    return reader->damage().none() ? std::optional(hash) : std::nullopt;
  } catch (const Error&) {
    return std::nullopt;
  }
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  open_base();
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const ByteView input(reinterpret_cast<const std::byte*>(data), size - 1);
  const bool repairs = data[size - 1] % 2 == 0;
  const Bytes bytes = repairs ? repaired(input) : Bytes(input.begin(), input.end());
  const FileDescriptor fd(::memfd_create("fuzz", 0));
  if (::write(fd.get(), bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) return 0;
  bool opens = false;
  const auto by_index = read_by_index(fd.get(), opens);
  // Most inputs have a header that is refused, which takes nearly all of the time: the other readers see some of them.
  if (repairs && !opens && data[size - 1] % 8 != 6) return 0;
  if (::lseek(fd.get(), 0, SEEK_SET) != 0) return 0;
  const auto as_stream = read_as_stream(fd.get());
  if (as_stream && by_index != as_stream) std::abort();
  if (::lseek(fd.get(), 0, SEEK_SET) != 0) return 0;
  if (recover_all(fd.get(), size % 2 == 0) != as_stream && as_stream) std::abort();
  return 0;
}
