// SPDX-License-Identifier: Apache-2.0
// Containers that grow: what was there stays as it was, and is what a reader finds until all of the new is there.
#include <doctest/doctest.h>

#include <fstream>

#include "formats/hdf5/hdf5.hpp"
#include "formats/kvz/kvz_records.hpp"
#include "formats/parts.hpp"
#include "kvzip/container.hpp"
#include "kvzip/error.hpp"
#include "kvzip/recover.hpp"
#include "tests/contract/sample_dumps.hpp"
#include "tests/support/failing_call.hpp"
#include "tests/unit/scratch_directory.hpp"

namespace kvzip::test {
namespace {

constexpr std::string_view kExact = "key = planes,ac\nvalue = planes,ac";

/// Keys and values of one layer, an id for each token, and a table that is the same for all.
std::unique_ptr<MemoryReader> tokens(std::uint64_t count, unsigned seed) {
  Dump dump;
  dump.tensors = {{"layers.0.key", DType::f16, {2, count, 4}},
                  {"layers.0.value", DType::f16, {2, count, 4}},
                  {"token_ids", DType::i32, {count}},
                  {"inv_freq", DType::f32, {2}}};
  dump.attributes = {text_attribute("axes", "HTD")};
  auto reader = std::make_unique<MemoryReader>(dump);
  for (std::size_t t = 0; t < 3; ++t) reader->data(t) = pattern(dump.tensors[t], seed + t);
  reader->stated = recognise(dump);
  return reader;
}

void write_file(const std::string& path, ByteView bytes) {
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
}

void append(const std::string& path, DumpReader& more) {
  append_kvz(path, more, recognise(more.dump()), options_of(kExact), 1);
}

/// Tokens of one head after those of another: [2, T, 4] in pieces of a head each.
Bytes joined(const std::vector<const MemoryReader*>& parts, std::size_t tensor) {
  const std::size_t heads = tensor < 2 ? 2 : 1;
  Bytes out;
  for (std::size_t h = 0; h < heads; ++h) {
    for (const MemoryReader* part : parts) {
      const Bytes& data = part->data(tensor);
      const std::size_t size = data.size() / heads;
      out.insert(out.end(), data.begin() + static_cast<std::ptrdiff_t>(h * size),
                 data.begin() + static_cast<std::ptrdiff_t>((h + 1) * size));
    }
  }
  return out;
}

std::optional<Error> refusal(const std::string& path, DumpReader& more) {
  try {
    append(path, more);
  } catch (const Error& error) {
    return error;
  }
  return std::nullopt;
}

}  // namespace

TEST_CASE("tokens join a container, and the bytes that it had stay") {
  const ScratchDirectory scratch;
  const std::string path = scratch.file("a.kvz");
  auto first = tokens(5, 1), second = tokens(3, 7), third = tokens(1, 11);
  write_file(path, compressed(*first, options_of(kExact)));
  const Bytes before = file_bytes(path);
  append(path, *second);
  const Bytes between = file_bytes(path);
  append(path, *third);
  const Bytes after = file_bytes(path);
  CHECK(std::equal(before.begin(), before.end(), between.begin()));
  CHECK(std::equal(between.begin(), between.end(), after.begin()));

  const auto reader = open_kvz(path);
  const std::vector<std::uint64_t> all{2, 9, 4}, ids{9}, table{2};
  CHECK(reader->dump().tensors[0].shape == all);
  CHECK(reader->dump().tensors[2].shape == ids);
  CHECK(reader->dump().tensors[3].shape == table);
  const std::vector<const MemoryReader*> parts{first.get(), second.get(), third.get()};
  const std::vector<Bytes> values = values_of(*reader);  // by parts
  for (std::size_t t = 0; t < 3; ++t) {
    CHECK(values[t] == joined(parts, t));
    const TensorInfo& info = reader->dump().tensors[t];
    for (const Slice& slice : split_contiguous(info, t, 12)) {
      Bytes piece(slice.elements() * slice_unit(info));
      reader->read(slice, piece);
      CHECK(piece == gather(info, values[t], slice));
    }
  }
  CHECK(values[3] == first->data(3));
  const KvzSummary summary = reader->summary();
  CHECK(summary.file_bytes == after.size());
  CHECK(summary.groups.at(0).rows == 9);
  CHECK(summary.appended == 2);
  CHECK(summary.unfinished == 0);
  CHECK(verify_kvz(path, 1, {}).empty());
  CHECK(recognise(reader->dump()).recognised == 2);
}

TEST_CASE("an append that was cut anywhere leaves the container as it was, and the next one goes on from there") {
  const ScratchDirectory scratch;
  const std::string path = scratch.file("a.kvz");
  auto first = tokens(5, 1), second = tokens(3, 7);
  write_file(path, compressed(*first, options_of(kExact)));
  const std::size_t before = file_bytes(path).size();
  append(path, *second);
  const Bytes whole = file_bytes(path);
  const std::vector<Bytes> old = values_of(*open_kvz(ByteView(whole).first(before)));
  for (std::size_t size = before + 1; size < whole.size(); ++size) {
    const auto reader = open_kvz(ByteView(whole).first(size));
    REQUIRE(reader->dump().tensors == first->dump().tensors);
    REQUIRE(reader->description().unfinished == size - before);
    REQUIRE(values_of(*reader) == old);
  }
  for (const std::size_t size : {before + 1, before + 100, whole.size() - 1}) {
    write_file(path, ByteView(whole).first(size));
    const std::string line = fmt::format("{} bytes at the end are of an append that was not finished", size - before);
    CHECK(verify_kvz(path, 1, {}) == std::vector<std::string>{line});
    RecoverOptions rescue{scratch.file("rescued.kvz"), "kvz", true};
    const KvzDamage damage = recover_kvz(path, rescue);
    CHECK(damage.lost == 0);
    CHECK(damage.others == std::vector<std::string>{line});
    CHECK(values_of(*open_kvz(rescue.out)) == old);
    append(path, *second);
    CHECK(file_bytes(path) == whole);
  }
}

TEST_CASE("an append of which the file system does not store all leaves the container as it was") {
  const ScratchDirectory scratch;
  const std::string path = scratch.file("a.kvz");
  auto first = tokens(5, 1), second = tokens(3, 7);
  write_file(path, compressed(*first, options_of(kExact)));
  const Bytes before = file_bytes(path);
  std::uint64_t n = 1;
  for (bool reached = true; reached; ++n) {
    CAPTURE(n);
    const FailingCall full(Call::pwrite, ENOSPC, n, 1);
    const auto error = refusal(path, *second);
    reached = full.reached();
    REQUIRE(error.has_value() == reached);
    if (error) CHECK(error->code() == ErrorCode::io);
    CHECK((file_bytes(path) == before) == reached);
  }
  CHECK(n > 3);
  write_file(path, before);
  const FailingCall quota(Call::close, EDQUOT);
  const auto error = refusal(path, *second);
  REQUIRE(error);
  CHECK(error->code() == ErrorCode::io);
  CHECK(error->file() == path);
  CHECK(file_bytes(path) == before);
}

TEST_CASE("what stands behind a container and is no append of its own is refused") {
  auto first = tokens(5, 1), second = tokens(3, 7);
  const Bytes container = compressed(*first, options_of(kExact)), other = compressed(*second, options_of(kExact));
  const auto refusal_of = [&](const Bytes& more) {
    Bytes file = container;
    file.insert(file.end(), more.begin(), more.end());
    try {
      open_kvz(ByteView(file));
    } catch (const Error& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  const std::string rest = fmt::format("what stands from byte {} on is no part of it", container.size());
  CHECK(refusal_of({std::byte{7}}).find(rest) != std::string::npos);
  CHECK(refusal_of(Bytes(4096)).find(rest) != std::string::npos);
  // A container of its own, which is no appended one.
  CHECK(refusal_of(other).find("was appended to something else") != std::string::npos);
  // Behind another container than this one.
  const ScratchDirectory scratch;
  const std::string path = scratch.file("a.kvz");
  write_file(path, other);
  append(path, *first);
  const Bytes grown = file_bytes(path);
  const ByteView appended = ByteView(grown).subspan(other.size());
  CHECK(refusal_of(Bytes(appended.begin(), appended.end())).find("was appended to something else") !=
        std::string::npos);
  // By itself.
  CHECK_THROWS_AS(open_kvz(appended), Error);
  const MemoryFile alone(appended);
  CHECK_THROWS_AS(decompressed_stream(appended), Error);
  CHECK(!verify_kvz(alone.path(), 1, {}).empty());
}

TEST_CASE("a byte changed in what was appended is found") {
  const ScratchDirectory scratch;
  const std::string path = scratch.file("a.kvz");
  auto first = tokens(2, 1), second = tokens(1, 7), third = tokens(1, 9);
  write_file(path, compressed(*first, options_of(kExact)));
  const std::size_t before = file_bytes(path).size();
  append(path, *second);
  append(path, *third);
  const Bytes whole = file_bytes(path);
  const std::vector<Bytes> good = values_of(*open_kvz(ByteView(whole)));
  std::size_t refused = 0;
  for (std::size_t at = before - 8; at < whole.size(); ++at) {
    CAPTURE(at);
    Bytes bad = whole;
    bad[at] ^= std::byte{4};
    try {
      // Some bytes say nothing to a reader that has the index; none makes it pass over tokens.
      CHECK(values_of(*open_kvz(ByteView(bad))) == good);
    } catch (const Error&) {
      ++refused;
    }
    if (at % 16 != 0) continue;
    write_file(path, bad);
    try {
      CHECK(!verify_kvz(path, 1, {}).empty());
    } catch (const Error&) {
    }
  }
  CHECK(refused > (whole.size() - before) / 2);
}

TEST_CASE("what is damaged in a container that grew is lost alone, and told by its place in the whole") {
  const ScratchDirectory scratch;
  const std::string path = scratch.file("a.kvz");
  auto first = tokens(5, 1), second = tokens(3, 7), third = tokens(4, 9);
  write_file(path, compressed(*first, options_of(kExact)));
  append(path, *second);
  const std::size_t begin = file_bytes(path).size();
  append(path, *third);
  const Bytes whole = file_bytes(path);
  const std::vector<Bytes> good = values_of(*open_kvz(ByteView(whole)));
  // The first frame of the last one: that of the keys. Damaged are its payload, and then the header of its record, too.
  const std::string sync("KVR\1\2", 5);
  const std::string text(reinterpret_cast<const char*>(whole.data()), whole.size());
  const std::size_t frame = text.find(sync, begin);
  REQUIRE(frame != std::string::npos);
  Bytes bad = whole;
  for (const std::size_t at : {frame + kRecordHeaderBytes + 3, frame + 9}) {
    bad[at] ^= std::byte{1};
    write_file(path, bad);
    for (const char* format : {"kvz", "safetensors"}) {
      RecoverOptions rescue{scratch.file("rescued"), format, true};
      const KvzDamage damage = recover_kvz(path, rescue);
      REQUIRE(damage.holes.size() == 1);
      CHECK(damage.holes[0].name.starts_with("appended container 2: layers.0.key"));
      const std::vector<std::uint64_t> start{0, 8, 0}, count{2, 4, 4};
      CHECK(damage.holes[0].slices.at(0).start == start);
      CHECK(damage.holes[0].slices.at(0).count == count);
      CHECK(damage.holes[0].offset >= begin);
      CHECK(damage.lost == 2 * 4 * 4);
      const auto reader = open_reader(rescue.out);
      const auto& tensors = reader->dump().tensors;
      for (std::size_t t = 0; t < tensors.size(); ++t) {
        const auto known = std::ranges::find(third->dump().tensors, tensors[t].name, &TensorInfo::name);
        if (tensors[t].name != "layers.0.key")
          CHECK(values_of(*reader)[t] == good[static_cast<std::size_t>(known - third->dump().tensors.begin())]);
      }
    }
  }
}

TEST_CASE("each container of a file has its own tables, chains and chunks") {
  const ScratchDirectory scratch;
  const std::string path = scratch.file("a.kvz");
  auto first = tokens(40, 1), second = tokens(24, 7);
  KvzOptions options = options_of("restart = 2\nkey = klt:basis=tensor:bits=4,pack\nvalue = adapt:step=0.1,rans", 8);
  const std::vector<MemoryReader*> both{first.get(), second.get()};
  std::vector<std::vector<Bytes>> alone;
  for (MemoryReader* one : both) {
    KvzOptions own = options;
    fit_options(*one, *one->recognition(), own, 1);
    REQUIRE(!own.tables.stored.empty());
    alone.push_back(decompressed(compressed(*one, own)));
    if (one == first.get()) write_file(path, compressed(*one, own));
  }
  append_kvz(path, *second, *second->recognition(), options, 1);
  const auto reader = open_kvz(path);
  const std::vector<Bytes> values = values_of(*reader, 2);
  for (std::size_t t = 0; t < 2; ++t) {
    MemoryReader a(first->dump()), b(second->dump());
    a.data(t) = alone[0][t];
    b.data(t) = alone[1][t];
    CHECK(values[t] == joined({&a, &b}, t));
    const Slice across{t, {0, 38, 0}, {2, 5, 4}};
    Bytes piece(2 * 5 * 4 * 2);
    reader->read(across, piece);
    CHECK(piece == gather(reader->dump().tensors[t], values[t], across));
  }
  CHECK(verify_kvz(path, 1, {}).empty());
}

TEST_CASE("a list of all tokens goes on where it begins as the container's, and gives what is new") {
  const ScratchDirectory scratch;
  const std::string path = scratch.file("a.kvz");
  auto first = tokens(5, 1), second = tokens(3, 7);
  write_file(path, compressed(*first, options_of(kExact)));
  Dump dump = second->dump();
  dump.tensors[2].shape[0] = 8;
  MemoryReader more(dump);
  for (std::size_t t = 0; t < 4; ++t) more.data(t) = second->data(t);
  more.data(3) = first->data(3);
  more.data(2) = first->data(2);
  more.data(2).insert(more.data(2).end(), second->data(2).begin(), second->data(2).end());
  append(path, more);
  CHECK(values_of(*open_kvz(path))[2] == more.data(2));
}

TEST_CASE("what an HDF5 file holds beside its tensors stays that of the container") {
  const ScratchDirectory scratch;
  const std::string path = scratch.file("a.kvz");
  const auto framed = [](std::uint64_t count, unsigned seed, std::uint64_t frame) {
    Dump dump = tokens(count, seed)->dump();
    dump.tensors.push_back({std::string(kHdf5Frame), DType::u8, {frame}});
    auto reader = std::make_unique<MemoryReader>(dump);
    reader->stated = recognise(dump);
    return reader;
  };
  auto first = framed(5, 1, 30), second = framed(3, 7, 20);
  write_file(path, compressed(*first, options_of(kExact)));
  append(path, *second);
  const std::vector<Bytes> values = values_of(*open_kvz(path));
  CHECK(values[4] == first->data(4));
  CHECK(values[2].size() == 8 * 4);
}

TEST_CASE("what does not go on a container's tensors is refused and leaves no byte") {
  const ScratchDirectory scratch;
  const std::string path = scratch.file("a.kvz");
  auto first = tokens(5, 1);
  write_file(path, compressed(*first, options_of(kExact)));
  const Bytes before = file_bytes(path);
  const auto refuses = [&](const Dump& dump, std::string_view what) {
    MemoryReader more(dump);
    const auto error = refusal(path, more);
    REQUIRE(error);
    const std::string said = error->what();
    CAPTURE(said);
    CHECK(said.find(what) != std::string::npos);
    CHECK(file_bytes(path) == before);
  };
  const Dump good = tokens(3, 7)->dump();
  Dump dump = good;
  dump.tensors[0].shape[0] = 3;
  refuses(dump, "tensor 'layers.0.key' is not of the type, role, axes or shape");
  dump = good;
  dump.tensors[1].dtype = DType::bf16;
  refuses(dump, "tensor 'layers.0.value' is not of the type");
  dump = good;
  dump.tensors.erase(dump.tensors.begin());
  dump.tensors.pop_back();
  refuses(dump, "tensor 'layers.0.key' has nothing that goes on");
  dump = good;
  dump.tensors[1].name = "layers.1.value";
  refuses(dump, "tensor 'layers.1.value' has nothing to go on from");
  dump = good;
  dump.tensors[2].shape[0] = 4;
  refuses(dump, "tensor 'token_ids' has no entry for each token");
  dump = good;
  dump.tensors[3].dtype = DType::i32;
  refuses(dump, "tensor 'inv_freq' has no entry for each token");
  dump = {};
  refuses(dump, "it has no keys or values of new tokens");
}

}  // namespace kvzip::test
