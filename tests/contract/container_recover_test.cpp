// SPDX-License-Identifier: Apache-2.0
// What is recovered from a damaged container is what was in it, or lies in a hole that is told of.
#include <doctest/doctest.h>

#include <set>

#include "formats/boxes.hpp"
#include "formats/kvz/kvz_salvage.hpp"
#include "kvzip/error.hpp"
#include "tests/contract/sample_dumps.hpp"
#include "tests/support/container_parts.hpp"
#include "tests/unit/scratch_directory.hpp"

namespace kvzip::test {
namespace {

/// Plain and chained frames, tensors that pass through, and a stored table.
Bytes sample_container() {
  auto reader = sample_reader({{"n", DType::i32, {3}, Role::other, {}, ""},
                               {"k", DType::f16, {1, 22, 4}, Role::key, 0, "HTD"},
                               {"v", DType::bf16, {1, 22, 4}, Role::value, 0, "HTD"},
                               {"k1", DType::f32, {2, 9, 2}, Role::key, 1, "HTD"}});
  KvzOptions options = options_of(
      "restart = 3\nkey[1] = klt:basis=tensor,pack\nkey = quant:bits=4,pack\nvalue = "
      "carry:of=last,quant:bits=5:axis=token,ac",
      4);
  fit_options(*reader, *reader->recognition(), options, 1);
  REQUIRE_FALSE(options.tables.stored.empty());
  return compressed(*reader, options);
}

struct Recovered {
  std::vector<Bytes> values;
  KvzDamage damage;
};

/// Nothing where nothing can be known.
std::optional<Recovered> recovered(const MemoryFile& file, bool by_index, unsigned threads = 1) {
  ::lseek(file.descriptor(), 0, SEEK_SET);
  InputStream stream(file.descriptor(), "stream");
  try {
    std::optional<std::vector<FrameAt>> places;
    if (by_index) places = places_of_frames(InputFile(file.path()));
    const auto reader = open_salvage(stream, places);
    MemoryWriter writer(reader->dump());
    const PartStep prepare = [&](Part& part) { writer.prepare(part); };
    const PartStep take = [&](Part& part) {
      reader->note(part);
      writer.append(part);
    };
    for_each_part(*reader, prepare, take, threads);
    Recovered out{{}, reader->damage()};
    for (std::size_t i = 0; i < reader->dump().tensors.size(); ++i) out.values.push_back(writer.data(i));
    return out;
  } catch (const Error& e) {
    const std::string said = e.what();
    CAPTURE(said);
    CHECK((e.code() == ErrorCode::corrupt || e.code() == ErrorCode::truncated));
    return {};
  }
}

/// NaN and 0 as a hole has them: all bytes of an element that is not NaN are 0.
bool is_filler(DType dtype, ByteView element) {
  if (!is_codable_float(dtype))
    return std::all_of(element.begin(), element.end(), [](std::byte b) { return b == std::byte{0}; });
  float value = 0;
  to_float(dtype, element, {&value, 1});
  return value != value;
}

/// Outside of holes all is as it was, inside there is nothing but filler. Returns how many values are wrong.
std::size_t wrong_values(const Recovered& got, const std::vector<Bytes>& right) {
  std::vector<Bytes> lost;
  for (const Bytes& tensor : right) lost.emplace_back(tensor.size());
  std::uint64_t values = 0;
  for (const KvzHole& hole : got.damage.holes) {
    values += hole.values;
    for (const Slice& slice : hole.slices) {
      const TensorInfo& info = got.damage.tensors[slice.tensor];
      scatter(info, lost[slice.tensor], slice, Bytes(slice.elements() * slice_unit(info), std::byte{1}));
    }
  }
  CHECK(values == got.damage.lost);
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < right.size(); ++i) {
    const std::size_t unit = dtype_unit(got.damage.tensors[i].dtype);
    for (std::size_t at = 0; at < right[i].size(); at += unit) {
      const ByteView element = ByteView(got.values[i]).subspan(at, unit);
      const bool same = std::equal(element.begin(), element.end(), right[i].begin() + static_cast<std::ptrdiff_t>(at));
      wrong += lost[i][at] == std::byte{0} ? !same : !is_filler(got.damage.tensors[i].dtype, element);
    }
  }
  return wrong;
}

struct Place {
  std::size_t offset = 0, end = 0;
  std::uint16_t type = 0;
};
std::vector<Place> places_of_records(ByteView container) {
  std::vector<Place> places;
  std::size_t at = kPreludeBytes;
  for (const RawRecord& r : take_apart(container)) {
    const std::size_t end = at + kRecordHeaderBytes + r.payload.size() + kRecordTailBytes;
    places.push_back({at, end, r.type});
    at = end;
  }
  return places;
}

}  // namespace

TEST_CASE("recover: of a sound container all comes back and nothing is said") {
  const Bytes container = sample_container();
  const MemoryFile file(container);
  for (const bool by_index : {false, true}) {
    const auto got = recovered(file, by_index, 3);
    REQUIRE(got);
    CHECK(got->damage.none());
    CHECK(got->damage.values == 3 + 88 + 88 + 36);
    CHECK(got->values == decompressed(container));
  }
}

TEST_CASE("recover: any one flipped bit costs no more than the frames that cannot do without it") {
  const Bytes container = sample_container();
  const std::vector<Bytes> right = decompressed(container);
  const auto records = places_of_records(container);
  const MemoryFile file(container);
  std::vector<std::size_t> nothing, wrong, silent, too_much;
  for (std::size_t byte = 0; byte < container.size(); ++byte) {
    const std::size_t bit = byte * 8 + byte % 8;
    file.flip(bit);
    const bool in_header = byte >= records[0].offset && byte < records[0].end;
    const auto got = recovered(file, byte / 2 % 2 == 0);
    if (!got) {
      nothing.push_back(byte);
      if (!in_header) too_much.push_back(byte);
    } else {
      if (wrong_values(*got, right) != 0) wrong.push_back(byte);
      if (got->damage.none()) silent.push_back(byte);
      // A stretch of three chained frames is 48 values, all of k1, which needs the table, is 36.
      if (got->damage.lost > 48) too_much.push_back(byte);
      const bool in_frames = byte >= records[1].offset && byte < records[records.size() - 2].offset;
      if (!in_frames && got->damage.lost != 0) too_much.push_back(byte);
    }
    file.flip(bit);
  }
  CHECK_FALSE(nothing.empty());  // the header is not stored twice
  CHECK(wrong == std::vector<std::size_t>{});
  CHECK(silent == std::vector<std::size_t>{});
  CHECK(too_much == std::vector<std::size_t>{});
}

TEST_CASE("recover: no bit of the first 32 bytes is needed, whatever flags they have") {
  for (const char* rules : {"quant:bits=4,pack", "carry:of=last,quant:bits=5:axis=token,ac"}) {
    CAPTURE(rules);
    auto reader = sample_reader(
        {{"k", DType::f16, {1, 22, 4}, Role::key, 0, "HTD"}, {"v", DType::bf16, {1, 22, 4}, Role::value, 0, "HTD"}});
    const Bytes sound = compressed(*reader, options_of(fmt::format("restart = 3\nkey = {0}\nvalue = {0}", rules), 4));
    const auto whole = recovered(MemoryFile(sound), true);
    REQUIRE(whole);
    for (std::size_t bit = 0; bit < 8 * kPreludeBytes; ++bit) {
      CAPTURE(bit);
      Bytes damaged = sound;
      damaged[bit / 8] ^= std::byte{1} << bit % 8;
      const auto some = recovered(MemoryFile(damaged), false);
      REQUIRE(some);
      CHECK(some->damage.lost == 0);
      CHECK_FALSE(some->damage.none());
      CHECK(some->values == whole->values);
    }
  }
}

TEST_CASE("recover: of a container cut at any byte every whole frame comes back") {
  const Bytes container = sample_container();
  const std::vector<Bytes> right = decompressed(container);
  const auto records = places_of_records(container);
  std::uint64_t lost_before = ~std::uint64_t{0};
  for (std::size_t n = 0; n < container.size(); n += n < records[0].end ? 7 : 2) {
    CAPTURE(n);
    const MemoryFile file(ByteView(container).first(n));
    const auto got = recovered(file, true);
    REQUIRE(got.has_value() == (n >= records[0].end));
    if (!got) continue;
    REQUIRE(wrong_values(*got, right) == 0);
    CHECK_FALSE(got->damage.none());
    CHECK(got->damage.lost <= lost_before);
    lost_before = got->damage.lost;
    CHECK((got->damage.lost == 0) == (n >= records[records.size() - 3].end));
  }
  CHECK(lost_before == 0);
}

TEST_CASE("recover: bytes taken out, put in and zeroed") {
  const Bytes container = sample_container();
  const std::vector<Bytes> right = decompressed(container);
  const std::size_t after_header = places_of_records(container)[0].end;
  Random random(3);
  std::set<std::uint64_t> losses;
  for (int i = 0; i < 300; ++i) {
    Bytes damaged = container;
    const std::size_t at = after_header + random.below(container.size() - after_header);
    const std::size_t count = 1 + random.below(std::min<std::size_t>(200, container.size() - at));
    const auto first = damaged.begin() + static_cast<std::ptrdiff_t>(at),
               last = first + static_cast<std::ptrdiff_t>(count);
    switch (i % 3) {
      case 0:
        damaged.erase(first, last);
        break;
      case 1:
        damaged.insert(first, count, static_cast<std::byte>(i));
        break;
      default:
        std::fill(first, last, std::byte{0});
    }
    CAPTURE(i);
    const auto got = recovered(MemoryFile(damaged), true);
    if (!got) continue;  // numbers that do not add up
    REQUIRE(wrong_values(*got, right) == 0);
    losses.insert(got->damage.lost);
  }
  CHECK(losses.size() > 5);
}

TEST_CASE("recover: records of a container that is data of another one are not taken for records of that") {
  const Bytes inner = sample_container();
  auto reader = sample_reader({{"blob", DType::u8, {inner.size()}, Role::other, {}, ""},
                               {"k", DType::f16, {1, 22, 4}, Role::key, 0, "HTD"},
                               {"v", DType::f16, {1, 22, 4}, Role::value, 0, "HTD"}});
  reader->data(0) = inner;
  const Bytes file =
      compressed(*reader, options_of("other = planes,pack\nkey = quant:bits=4,pack\nvalue = cast,pack", 4));
  const std::vector<Bytes> right = decompressed(file);
  const std::vector<Place> places = places_of_records(file);
  const Place& blob = *std::find_if(places.begin(), places.end(),
                                    [](const Place& p) { return p.type == record_type(RecordType::frame); });
  REQUIRE(std::search(file.begin(), file.end(), inner.begin(), inner.end()) != file.end());
  for (std::size_t byte = 0; byte < kRecordHeaderBytes; ++byte) {
    Bytes bad = file;
    bad[blob.offset + byte] ^= std::byte{4};
    const MemoryFile damaged(bad);
    const auto by_index = recovered(damaged, true);
    REQUIRE(by_index);
    CHECK(by_index->damage.lost == inner.size());
    CHECK(wrong_values(*by_index, right) == 0);
    if (const auto without = recovered(damaged, false)) CHECK(wrong_values(*without, right) == 0);
  }
}

TEST_CASE("recover: files of any format, and verify's lines") {
  Bytes container = sample_container();
  const auto records = places_of_records(container);
  // The second of three chained frames of v (k has 6 frames after n's one).
  std::size_t frame = 0, offset = 0;
  for (const Place& place : records) {
    if (place.type != record_type(RecordType::frame)) continue;
    if (frame++ == 8) offset = place.offset;
  }
  container[offset + kRecordHeaderBytes + 1] ^= std::byte{4};
  container.resize(container.size() - 1);
  const MemoryFile file(container);
  const auto lines = verify_kvz(file.path(), 2, {});
  REQUIRE(lines.size() == 3);  // the index can be had no more; the one frame; the end
  CHECK(lines[0].find("footer") != std::string::npos);
  CHECK(lines[1] == fmt::format("v, tokens 4-11 (byte {}): its checksum does not match", offset));
  CHECK(lines[2] == "the footer is cut");
  const ScratchDirectory scratch;
  const auto got = recovered(file, false);
  REQUIRE(got);
  for (const std::string_view format : {"kvz", "safetensors", "hdf5"}) {
    CAPTURE(format);
    RecoverOptions options{scratch.file(std::string(format)), format};
    const KvzDamage damage = recover_kvz(file.path(), options);
    CHECK(damage.lost == 32);
    CHECK(damage.holes.size() == 1);
    const auto reader = open_reader(options.out);
    auto values = values_of(*reader);
    for (std::size_t i = 0; i < values.size(); ++i) {
      const std::string& name = reader->dump().tensors[i].name;
      const auto same = std::find_if(damage.tensors.begin(), damage.tensors.end(),
                                     [&](const TensorInfo& info) { return info.name == name; });
      REQUIRE(same != damage.tensors.end());
      CHECK(values[i] == got->values[static_cast<std::size_t>(same - damage.tensors.begin())]);
    }
    if (format == "kvz") CHECK(verify_kvz(options.out, 1, {}).empty());
  }
}

TEST_CASE("recover: pages that cannot be are told of, and the values come back all the same") {
  const Bytes sample = sample_container();
  auto records = take_apart(sample);
  const auto index = std::find_if(records.begin(), records.end(),
                                  [](const RawRecord& r) { return r.type == record_type(RecordType::index); });
  RawRecord pages;
  pages.type = record_type(RecordType::pages);
  pages.payload = Bytes(8);  // pages of no tokens
  records.insert(index, pages);
  for (RawRecord& r : records) {
    if (r.type == record_type(RecordType::index) || r.type == record_type(RecordType::end))
      r = RawRecord{r.type, 0, {}, {}};
  }
  const MemoryFile file(put_together(records, load<std::uint8_t>(sample, 10), load<std::uint32_t>(sample, 12)));
  CHECK(values_of(*open_kvz(file.path())).size() == 4);
  const auto lines = verify_kvz(file.path(), 1, {});
  REQUIRE(lines.size() == 1);
  CHECK(lines[0].find("pages: 0 tokens are no page") != std::string::npos);
  const auto got = recovered(file, true);
  REQUIRE(got);
  CHECK(got->damage.lost == 0);
  CHECK(got->damage.others.size() == 1);
}

TEST_CASE("recover: a header that claims much is refused before anything is filled") {
  auto reader = sample_reader({{"k", DType::f16, {1, 64, 8}, Role::key, 0, "HTD"}});
  auto records = take_apart(compressed(*reader, options_of("key = quant:bits=4,pack", 16)));
  std::string text = header_text(records[0]);
  const std::size_t at = text.find("[1,64,8]");
  REQUIRE(at != std::string::npos);
  text.replace(at, 8, "[1,640000000,8]");
  records[0] = header_record(text);
  const MemoryFile file(put_together(records));
  ::lseek(file.descriptor(), 0, SEEK_SET);
  InputStream stream(file.descriptor(), "stream");
  const auto salvage = open_salvage(stream, {}, false, InputFile(file.path()).size());
  try {
    for_each_part(*salvage, {}, {}, 1);
    FAIL("10 GB were filled for a few hundred bytes");
  } catch (const Error& e) {
    CHECK(e.code() == ErrorCode::limit);
  }
}

TEST_CASE("recover: headers of records made to be read again and again are refused") {
  const Bytes container = sample_container();
  const auto records = places_of_records(container);
  ByteWriter hostile;
  hostile.put_bytes(ByteView(container).first(records[0].end));
  const std::size_t count = 60000;
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint64_t stored = (count - i) * kRecordHeaderBytes;
    hostile.put_bytes(make_record_header({record_type(RecordType::frame), 0, stored, stored, 2}));
  }
  hostile.put_bytes(Bytes(2 * kRecordHeaderBytes));
  const MemoryFile file(hostile.bytes());
  ::lseek(file.descriptor(), 0, SEEK_SET);
  InputStream stream(file.descriptor(), "stream");
  try {
    open_salvage(stream);
    FAIL("57 GB were hashed");
  } catch (const Error& e) {
    CHECK(e.code() == ErrorCode::limit);
  }
}

}  // namespace kvzip::test
