// SPDX-License-Identifier: Apache-2.0
// Tables of a container: stored once, found by name and hash, and hostile ones refused.
#include <doctest/doctest.h>

#include <filesystem>

#include "codec/limits.hpp"
#include "kvzip/metrics.hpp"
#include "tests/contract/hostile_containers.hpp"

namespace kvzip::test {
namespace {

constexpr std::uint64_t kTokens = 96;

/// Keys and values that vary in four directions of sixteen only, so that a basis of four suits all of them.
std::unique_ptr<MemoryReader> low_rank_reader() {
  auto reader = sample_reader({{"k", DType::f32, {2, kTokens, 8}, Role::key, 0, "HTD"},
                               {"v", DType::f32, {2, kTokens, 8}, Role::value, 0, "HTD"}});
  for (std::size_t tensor = 0; tensor < 2; ++tensor) {
    std::vector<float> values(2 * kTokens * 8);
    for (std::size_t h = 0; h < 2; ++h) {
      for (std::size_t t = 0; t < kTokens; ++t) {
        for (std::size_t d = 0; d < 8; ++d) {
          float x = 1 + static_cast<float>(h);
          for (std::size_t k = 0; k < 4; ++k) {
            const auto along = static_cast<float>((t * (2 * k + 3) + tensor) % 31) - 15;
            x += along * static_cast<float>((h * 8 + d) * (k + 2) % 7) / 8;
          }
          values[(h * kTokens + t) * 8 + d] = x;
        }
      }
    }
    std::memcpy(reader->data(tensor).data(), values.data(), values.size() * sizeof(float));
  }
  return reader;
}

KvzOptions fitted_options(MemoryReader& reader, std::string_view rules, std::uint64_t chunk = 16) {
  KvzOptions options = options_of(rules, chunk);
  fit_options(reader, *reader.recognition(), options, 1);
  return options;
}
constexpr std::string_view kTensor = "key = klt:bits=8:basis=tensor,pack\nvalue = klt:bits=8:basis=tensor,pack";
constexpr std::string_view kTile = "key = klt:bits=8,pack\nvalue = klt:bits=8,pack";

double worst(const std::vector<Bytes>& a, const std::vector<Bytes>& b) {
  double most = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    for (std::size_t at = 0; at < a[i].size(); at += sizeof(float)) {
      most = std::max(most, std::fabs(double{load<float>(a[i], at)} - load<float>(b[i], at)));
    }
  }
  return most;
}

Bytes table_bytes(std::uint16_t type, std::string_view name, const Bytes& table, std::uint64_t wrong = 0) {
  ByteWriter w;
  w.put(type);
  w.put(static_cast<std::uint16_t>(name.size()));
  w.put_bytes(std::as_bytes(std::span(name)));
  w.put(hash64(table) ^ wrong);
  w.put_bytes(table);
  return w.bytes();
}
RawRecord table_record(Bytes payload) {
  return {record_type(RecordType::table), 0, std::move(payload), {}};
}

std::string missing_message(const std::function<void()>& use, ErrorCode code) {
  try {
    use();
  } catch (const Error& e) {
    CHECK(e.code() == code);
    return e.what();
  }
  return {};
}

/// A scratch folder that goes with its files.
struct Folder {
  std::string path = fmt::format("{}/kvzip-tables-{}", temporary_directory(), ::getpid());
  Folder() { std::filesystem::create_directory(path); }
  ~Folder() { std::filesystem::remove_all(path); }
  std::string file(std::string_view name) const { return fmt::format("{}/{}", path, name); }
};
void write_file(const std::string& path, const Bytes& bytes) {
  OutputFile out(path, true);
  out.append(bytes);
  out.finish();
}

}  // namespace

TEST_CASE("a basis of the tensor stands once in the file and decodes like that of each tile") {
  const auto reader = low_rank_reader();
  const Bytes once = compressed(*reader, fitted_options(*reader, kTensor));
  const Bytes each = compressed(*reader, options_of(kTile, 16));
  // Six tiles a tensor: the means (32 bytes) and the basis (16 channels x 4 components at least, in half precision)
  // are in the file once instead of six times.
  CHECK(once.size() + 2 * 5 * (32 + 16 * 4 * 2) / 2 < each.size());
  const auto records = take_apart(once);
  CHECK(std::count_if(records.begin(), records.end(),
                      [](const RawRecord& r) { return r.type == record_type(RecordType::table); }) == 2);
  CHECK(records[1].type == record_type(RecordType::table));
  CHECK(records[2].type == record_type(RecordType::table));
  CHECK(load<std::uint16_t>(once, 10) == 1);
  CHECK(load<std::uint16_t>(each, 10) == 0);

  const std::vector<Bytes> before = originals(*reader), after = decompressed(once);
  CHECK(worst(before, after) < 0.5);  // of values up to 60
  CHECK(worst(before, decompressed(each)) < 0.5);
  CHECK(decompressed_stream(once) == after);
  CHECK(decompressed(once, 4) == after);
  CHECK(compressed(*reader, fitted_options(*reader, kTensor), 4) == once);
}

TEST_CASE("without tables at hand, a basis of the tensor is one of each tile, byte for byte") {
  const auto reader = low_rank_reader();
  CHECK(compressed(*reader, options_of(kTensor, 16)) == compressed(*reader, options_of(kTile, 16)));
}

TEST_CASE("a container with parts per head and a window before them holds a table for each group") {
  // A part of 8 channels has groups of one component only, each 40 bits a token with codes of 8.
  const auto reader = low_rank_reader();
  const auto options = fitted_options(*reader,
                                      "key/head = klt:bits=40:basis=tensor,deflate\n"
                                      "value = window:recent=20,klt:bits=40:per=head:basis=tensor,quant:bits=2,rans");
  CHECK(options.tables.stored.all().size() == 3);
  const Bytes container = compressed(*reader, options);
  CHECK(worst(originals(*reader), decompressed(container)) < 0.5);
  CHECK(decompressed_stream(container) == decompressed(container));
}

TEST_CASE("a table beside the container is found by its hash, and its absence is named") {
  const auto reader = low_rank_reader();
  const Tables fitted = fitted_options(*reader, kTensor).tables.stored;
  REQUIRE(fitted.all().size() == 2);
  Tables profile;
  profile.add("books", TableType::klt, fitted.all()[0]->bytes);
  const Folder folder;
  write_tables(folder.file("profile.kvzd"), profile, false);
  const Tables again = read_tables(folder.file("profile.kvzd"));
  REQUIRE(again.all().size() == 1);
  CHECK(again.all()[0]->bytes == profile.all()[0]->bytes);
  CHECK(again.all()[0]->name == "books");
  const std::string hash = fmt::format("{:016x}", hash64(profile.all()[0]->bytes));
  CHECK(again.find(hash) == again.find("books"));
  CHECK(again.find("other") == nullptr);

  KvzOptions options = options_of("key = klt:bits=8:basis=books,pack\nvalue = planes,pack", 16);
  const std::string lacking = missing_message([&] { compressed(*reader, options); }, ErrorCode::invalid_argument);
  CHECK(lacking.find("the table books") != std::string::npos);
  options.tables.beside = again;
  const Bytes container = compressed(*reader, options);
  for (const RawRecord& r : take_apart(container)) CHECK(r.type != record_type(RecordType::table));

  const std::string path = folder.file("cache.kvz");
  write_file(path, container);
  const std::string missing = missing_message([&] { values_of(*open_kvz(path)); }, ErrorCode::unsupported);
  CHECK(missing.find(hash) != std::string::npos);
  CHECK(missing.find(".kvzd") != std::string::npos);
  const auto given = open_kvz(path);
  given->use_tables(again);
  const std::vector<Bytes> values = values_of(*given);
  CHECK(worst(originals(*reader), values) < 0.5);
  write_tables(path + "d", profile, false);
  CHECK(values_of(*open_kvz(path)) == values);
  CHECK(values_of(*open_reader(path)) == values);  // as the tool opens it
  CHECK(verify_kvz(path, 1, {}).empty());

  Bytes damaged = file_bytes(path + "d");
  for (std::size_t at = 0; at < damaged.size(); at += at < 128 ? 1 : 7) {
    CAPTURE(at);
    damaged[at] ^= std::byte{0x10};
    write_file(folder.file("damaged.kvzd"), damaged);
    CHECK_THROWS_AS(read_tables(folder.file("damaged.kvzd")), Error);
    damaged[at] ^= std::byte{0x10};
    write_file(folder.file("damaged.kvzd"), Bytes(damaged.begin(), damaged.begin() + static_cast<std::ptrdiff_t>(at)));
    CHECK_THROWS_AS(read_tables(folder.file("damaged.kvzd")), Error);
  }
}

TEST_CASE("a table for another number of channels is refused before anything is written") {
  const auto reader = low_rank_reader();
  KvzOptions options = fitted_options(*reader, "key/head = klt:bits=8:basis=tensor,pack\nvalue = planes,pack");
  options = {RuleSet::parse("key = klt:basis=group0.0,pack\nvalue = planes,pack", "test"), 16, {}, {}, options.tables};
  const std::string said = missing_message([&] { compressed(*reader, options); }, ErrorCode::invalid_argument);
  CHECK(said.find("8 channels") != std::string::npos);
}

TEST_CASE("hostile tables are refused") {
  const auto reader = low_rank_reader();
  const std::vector<RawRecord> good = [&] {
    auto records = take_apart(compressed(*reader, fitted_options(*reader, kTensor)));
    for (RawRecord& r : records) {
      if (r.type == record_type(RecordType::index) || r.type == record_type(RecordType::end)) r = {r.type, 0, {}, {}};
      if (r.type != record_type(RecordType::table)) continue;
      const RecordHeader packed{r.type, r.flags, r.payload.size(), r.decoded.value_or(r.payload.size()), 0};
      r = {r.type, 0, unpack_description(packed, r.payload), {}};
    }
    return records;
  }();
  CHECK(!by_index(put_together(good, 1)).code);
  CHECK(!as_stream(put_together(good, 1)).code);
  const Bytes& payload = good[1].payload;
  const std::size_t front = 2 + 2 + load<std::uint16_t>(payload, 2) + 8;
  const std::string name(reinterpret_cast<const char*>(payload.data()) + 4, load<std::uint16_t>(payload, 2));
  const Bytes table(payload.begin() + static_cast<std::ptrdiff_t>(front), payload.end());
  const auto with = [&](RawRecord record, std::size_t at = 1) {
    auto records = good;
    records[at] = std::move(record);
    return put_together(records, 1);
  };
  const auto inserted = [&](RawRecord record, std::size_t at) {
    auto records = good;
    records.insert(records.begin() + static_cast<std::ptrdiff_t>(at), std::move(record));
    return put_together(records, 1);
  };
  CHECK(!by_index(with(table_record(table_bytes(1, name, table)))).code);
  check_refused(with(table_record(table_bytes(7, name, table))), ErrorCode::unsupported, "unknown type 7");
  check_refused(with(table_record(table_bytes(1, name, table, 1))), ErrorCode::corrupt, "hash");
  check_refused(with(table_record(table_bytes(1, "a/b", table))), ErrorCode::corrupt, "name");
  check_refused(with(table_record(table_bytes(1, "", table))), ErrorCode::corrupt, "name");
  check_refused(with(table_record(table_bytes(1, "0123456789abcdef", table))), ErrorCode::corrupt, "name");
  check_refused(with(table_record(table_bytes(1, "another", table))), ErrorCode::unsupported, name);
  check_refused(with(table_record(Bytes(3))), ErrorCode::truncated);
  check_refused(inserted(good[1], 2), ErrorCode::corrupt, "two tables");
  CHECK(by_index(inserted(table_record(table_bytes(1, "late", table)), 4)).code == ErrorCode::corrupt);
  CHECK(as_stream(inserted(table_record(table_bytes(1, "late", table)), 4)).code.has_value());
  // A table that claims more than it has, or is cut, or has more than it needs.
  Bytes wide = table;
  const std::uint32_t channels = 0xfffffff0;
  std::memcpy(wide.data(), &channels, sizeof channels);
  check_refused(with(table_record(table_bytes(1, name, wide))), ErrorCode::corrupt, "channels");
  for (const std::size_t size : {std::size_t{0}, std::size_t{7}, std::size_t{8}, std::size_t{30}, table.size() - 1}) {
    const Bytes cut(table.begin(), table.begin() + static_cast<std::ptrdiff_t>(size));
    CHECK(by_index(with(table_record(table_bytes(1, name, cut)))).code.has_value());
  }
  Bytes more = table;
  more.push_back(std::byte{0});
  check_refused(with(table_record(table_bytes(1, name, more))), ErrorCode::corrupt);
  for (std::size_t at = 8 + 1 + 32; at < 8 + 1 + 32 + 4; ++at) {  // behind the means: how many groups there are
    Bytes groups = table;
    groups[at] = std::byte{0xff};
    CHECK(by_index(with(table_record(table_bytes(1, name, groups)))).code.has_value());
  }
  // The length alone is refused: nothing of that size is read.
  Bytes huge = put_together(good, 1);
  const std::size_t at = kPreludeBytes + kRecordHeaderBytes + good[0].payload.size() + kRecordTailBytes;
  const RecordHeaderBytes header = make_record_header(
      {record_type(RecordType::table), 0, limits::kTableBytes + 4096, limits::kTableBytes + 4096, 1});
  std::copy(header.begin(), header.end(), huge.begin() + static_cast<std::ptrdiff_t>(at));
  CHECK(as_stream(huge).code == ErrorCode::limit);
  CHECK(by_index(huge).code.has_value());
}

TEST_CASE("tables keep names apart") {
  Tables tables;
  tables.add("a", TableType::klt, Bytes(4));
  CHECK_THROWS_AS(tables.add("a", TableType::klt, Bytes(5)), Error);
  CHECK_THROWS_AS(tables.add("", TableType::klt, Bytes(5)), Error);
  CHECK_THROWS_AS(tables.add(std::string(65, 'a'), TableType::klt, Bytes(5)), Error);
  CHECK_THROWS_AS(tables.add("0123456789abcdef", TableType::klt, Bytes(5)), Error);
  tables.add("b", TableType::klt, Bytes(4));  // the same content under another name
  CHECK(tables.find(tables.all()[1]->hash_text()) == tables.all()[0]);
}

}  // namespace kvzip::test
