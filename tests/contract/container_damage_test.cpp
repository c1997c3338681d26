// SPDX-License-Identifier: Apache-2.0
// A file that was cut, changed in one bit, or appended to is never taken for a sound one.
#include <doctest/doctest.h>

#include "kvzip/error.hpp"
#include "tests/contract/sample_dumps.hpp"
#include "tests/support/container_parts.hpp"

namespace kvzip::test {
namespace {

Bytes small_container(bool results = false) {
  auto reader = sample_reader({{"k", DType::f16, {1, 6, 4}, Role::key, 0, "HTD"},
                               {"v", DType::f16, {1, 6, 4}, Role::value, 0, "HTD"},
                               {"n", DType::i32, {2}, Role::other, {}, ""}});
  KvzOptions options = options_of("key = quant:bits=2,pack\nvalue = delta,quant:bits=4,ac", 4);
  if (results) {
    options.results.emplace();
    options.results->target = "max-error";
    options.results->wanted = 0.5;
    options.results->max_error = 0.5;
  }
  return compressed(*reader, options);
}

bool noticed_by_verify(const std::string& path) {
  try {
    return !verify_kvz(path, 1, {}).empty();
  } catch (const Error&) {
    return true;
  }
}
bool noticed_by_reading(const std::string& path) {
  try {
    values_of(*open_kvz(path));
    return false;
  } catch (const Error&) {
    return true;
  }
}
bool noticed_by_stream(int fd) {
  try {
    ::lseek(fd, 0, SEEK_SET);
    InputStream stream(fd, "stream");
    values_of(*open_kvz(stream));
    return false;
  } catch (const Error&) {
    return true;
  }
}

}  // namespace

namespace {

void check_every_bit(const Bytes& container) {
  // An index lets a reader do without the end record, which only who reads everything needs.
  std::size_t end_record = kPreludeBytes;
  for (const RawRecord& r : take_apart(container)) {
    if (r.type == record_type(RecordType::end)) break;
    end_record += kRecordHeaderBytes + r.payload.size() + kRecordTailBytes;
  }
  const std::size_t end_of_end = container.size() - kFooterBytes;
  const MemoryFile file(container);
  REQUIRE_FALSE(noticed_by_verify(file.path()));
  REQUIRE_FALSE(noticed_by_stream(file.descriptor()));
  std::vector<std::size_t> verify, stream, index;
  for (std::size_t bit = 0; bit < container.size() * 8; ++bit) {
    file.flip(bit);
    if (!noticed_by_verify(file.path())) verify.push_back(bit);
    if (!noticed_by_stream(file.descriptor())) stream.push_back(bit);
    const bool in_end = bit / 8 >= end_record && bit / 8 < end_of_end;
    if (!in_end && !noticed_by_reading(file.path())) index.push_back(bit);
    file.flip(bit);
  }
  CHECK(verify == std::vector<std::size_t>{});
  CHECK(stream == std::vector<std::size_t>{});
  CHECK(index == std::vector<std::size_t>{});
}

}  // namespace

TEST_CASE("no single flipped bit anywhere in a container goes unnoticed") {
  check_every_bit(small_container());
}

TEST_CASE("no single flipped bit goes unnoticed in a container with results") {
  check_every_bit(small_container(true));
}

TEST_CASE("a container cut at any byte is refused") {
  const Bytes container = small_container(true);
  for (std::size_t n = 0; n < container.size(); ++n) {
    CAPTURE(n);
    const MemoryFile file(ByteView(container).first(n));
    CHECK(noticed_by_verify(file.path()));
    CHECK(noticed_by_reading(file.path()));
    CHECK(noticed_by_stream(file.descriptor()));
  }
}

TEST_CASE("what is put before or after a container is noticed") {
  const Bytes container = small_container();
  for (const std::size_t n : {1u, 7u, 40u, 1000u}) {
    for (const bool before : {false, true}) {
      Bytes longer = container;
      longer.insert(before ? longer.begin() : longer.end(), n, std::byte{0});
      const MemoryFile file(longer);
      CHECK(noticed_by_verify(file.path()));
      CHECK(noticed_by_reading(file.path()));
      CHECK(noticed_by_stream(file.descriptor()));
    }
  }
  Bytes twice = container;
  twice.insert(twice.end(), container.begin(), container.end());
  const MemoryFile file(twice);
  CHECK(noticed_by_verify(file.path()));
  CHECK(noticed_by_reading(file.path()));
  CHECK(noticed_by_stream(file.descriptor()));
}

TEST_CASE("damage to frames is reported frame by frame, by name and tokens") {
  auto reader = sample_reader(sample_specs(2, 40));
  const Bytes container = compressed(*reader, options_of("key = planes,pack\nvalue = planes,pack", 16));
  const MemoryFile file(container);
  std::size_t at = kPreludeBytes, frame = 0;
  std::vector<std::size_t> places;
  for (const RawRecord& r : take_apart(container)) {
    if (r.type == record_type(RecordType::frame)) {
      if (frame == 2 || frame == 6) places.push_back(at);
      if (frame == 2 || frame == 6) file.flip((at + kRecordHeaderBytes + 3) * 8);
      ++frame;
    }
    at += kRecordHeaderBytes + r.payload.size() + kRecordTailBytes;
  }
  const auto damage = verify_kvz(file.path(), 3, {});
  REQUIRE(damage.size() == 2);
  CHECK(damage[0] == fmt::format("layers.0.key, tokens 16-31 (byte {}): its checksum does not match", places[0]));
  CHECK(damage[1] == fmt::format("layers.0.value, tokens 32-39 (byte {}): its checksum does not match", places[1]));
  try {
    values_of(*open_kvz(file.path()), 4);
    FAIL("it was read");
  } catch (const Error& e) {
    CHECK(e.code() == ErrorCode::corrupt);
    CHECK(std::string(e.what()) == file.path() + ": layers.0.key, tokens 16-31: its checksum does not match");
  }
}

TEST_CASE("text-mode transfers are named") {
  const Bytes container = small_container();
  std::string text(reinterpret_cast<const char*>(container.data()), container.size());
  const auto changed = [&](auto&& change) {
    std::string copy = text;
    change(copy);
    return MemoryFile(std::as_bytes(std::span(copy)));
  };
  const auto message = [](const MemoryFile& file) -> std::string {
    try {
      open_kvz(file.path());
    } catch (const Error& e) {
      CHECK(e.code() == ErrorCode::corrupt);
      return e.what();
    }
    return {};
  };
  CHECK(message(changed([](std::string& s) { s.erase(4, 1); })).find("text-mode") != std::string::npos);  // CR LF to LF
  CHECK(message(changed([](std::string& s) { s = s.substr(0, 7) + "\r" + s.substr(7); })).find("text-mode") !=
        std::string::npos);
  CHECK(message(changed([](std::string& s) { s[0] = 'x'; })).find("not a .kvz") != std::string::npos);
}

}  // namespace kvzip::test
