// SPDX-License-Identifier: Apache-2.0
// Small containers to be edited behind their checksums, and what reading them comes to, memory included.
#pragma once

#include <doctest/doctest.h>

#include <functional>
#include <nlohmann/json.hpp>

#include "kvzip/error.hpp"
#include "kvzip/trust.hpp"
#include "tests/contract/allocation.hpp"
#include "tests/contract/sample_dumps.hpp"
#include "tests/support/container_parts.hpp"

namespace kvzip::test {

using Json = nlohmann::ordered_json;
inline constexpr std::size_t kAllowance = std::size_t{64} << 20;

/// Lifts the limits while it lives.
struct Trusting {
  Trusting() { trust_files(true); }
  ~Trusting() { trust_files(false); }
};

struct Outcome {
  std::optional<ErrorCode> code;  // none: it was read
  std::string message;
  std::vector<Bytes> values;
};

/// Reads everything, counting memory. What is kept of the values does not count.
inline Outcome outcome(const std::function<std::unique_ptr<KvzReader>()>& open) {
  Outcome o;
  const std::size_t before = allocated_now();
  reset_allocated_most();
  try {
    const auto reader = open();
    for (std::uint64_t i = 0; i < reader->part_count(); ++i) {
      Part part = reader->part(i);
      reader->fetch(part);
      reader->expand(part);
      if (!part.data.empty() && part.data[0].size() < 4096) o.values.push_back(part.data[0]);
    }
  } catch (const Error& e) {
    o.code = e.code();
    o.message = e.what();
  }
  CHECK(allocated_most() - before < kAllowance);
  return o;
}
inline Outcome by_index(const Bytes& container) {
  const MemoryFile file(container);
  return outcome([&] { return open_kvz(file.path()); });
}
inline Outcome as_stream(const Bytes& container) {
  const MemoryFile file(container);
  ::lseek(file.descriptor(), 0, SEEK_SET);
  InputStream stream(file.descriptor(), "stream");
  return outcome([&] { return open_kvz(stream); });
}

inline void check_refused(const Bytes& container, ErrorCode code, std::string_view part_of_message = {}) {
  for (const Outcome& o : {by_index(container), as_stream(container)}) {
    CAPTURE(o.message);
    CHECK(o.code == code);
    CHECK(o.message.find(part_of_message) != std::string::npos);
  }
}

inline const std::vector<RawRecord>& sample_records() {
  static const std::vector<RawRecord> records = [] {
    auto reader = sample_reader({{"k", DType::f16, {2, 6, 4}, Role::key, 0, "HTD"},
                                 {"v", DType::f16, {2, 6, 4}, Role::value, 0, "HTD"},
                                 {"n", DType::i32, {2}, Role::other, {}, ""}});
    auto found = take_apart(compressed(*reader, options_of("key/head = quant:bits=2,pack\nvalue = planes,ac", 4)));
    found[0] = header_record(header_text(found[0]));
    for (RawRecord& r : found) {
      if (r.type != record_type(RecordType::index) && r.type != record_type(RecordType::end)) continue;
      r = {r.type, 0, {}, {}};
    }
    return found;
  }();
  return records;
}
inline Json sample_header() {
  return Json::parse(header_text(sample_records()[0]));
}

/// The sample with another header.
inline Bytes with_header(const Json& header, unsigned minor = 0, std::uint32_t features = 0) {
  auto records = sample_records();
  records[0] = header_record(header.dump());
  return put_together(records, minor, features);
}
inline Bytes with_header(const std::function<void(Json&)>& edit, unsigned minor = 0, std::uint32_t features = 0) {
  Json header = sample_header();
  edit(header);
  return with_header(header, minor, features);
}
/// The sample with other records.
inline Bytes with_records(const std::function<void(std::vector<RawRecord>&)>& edit) {
  auto records = sample_records();
  edit(records);
  return put_together(records);
}
/// Bytes `at`, of `count` in front of their 32-bit check, become others, with the check made right.
template <typename T>
void patch(Bytes& container, std::size_t start, std::size_t at, T value) {
  std::memcpy(container.data() + start + at, &value, sizeof value);
  const auto check = static_cast<std::uint32_t>(hash64(ByteView(container).subspan(start, 28)));
  std::memcpy(container.data() + start + 28, &check, sizeof check);
}

inline void set_footer(Bytes& container, const FooterInfo& info) {
  const Footer footer = make_footer(info);
  std::memcpy(container.data() + container.size() - footer.size(), footer.data(), footer.size());
}

}  // namespace kvzip::test
