// SPDX-License-Identifier: Apache-2.0
// Limits of what stands in records and of what a file may ask for, each at its edge, through containers that are put
// together.
#include <numeric>

#include "codec/limits.hpp"
#include "codec/pipeline.hpp"
#include "formats/kvz/kvz_header.hpp"
#include "formats/kvz/kvz_salvage.hpp"
#include "formats/kvz/kvz_scan.hpp"
#include "formats/kvz/kvz_tables.hpp"
#include "tests/contract/hostile_containers.hpp"

namespace kvzip::test {
namespace {

/// What is said of the error; nothing where there is none.
std::string said_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return {};
}
bool says(const std::function<void()>& f, std::string_view part) {
  return said_of(f).find(part) != std::string::npos;
}

InputStream stream_of(const MemoryFile& file) {
  ::lseek(file.descriptor(), 0, SEEK_SET);
  return {file.descriptor(), "stream"};
}

/// A container of keys of so many tokens, one head of so many channels, all of them in one frame, whose payload is so
/// many zeros.
Bytes claiming(std::string_view pipeline, DType dtype, std::uint64_t tokens, std::uint64_t channels,
               std::uint64_t payload) {
  auto reader = sample_reader({{"k", dtype, {1, 2, channels}, Role::key, 0, "HTD"}}, Fill::zeros);
  auto records = take_apart(compressed(*reader, options_of(fmt::format("key = {}", pipeline), 0)));
  Json header = Json::parse(header_text(records[0]));
  header["tensors"][0]["shape"] = Json::array({1, tokens, channels});
  header["groups"][0]["chunk"] = tokens;
  records[0] = header_record(header.dump());
  records[1] = {records[1].type, 0, Bytes(payload), {}};
  for (const std::size_t i : {2u, 3u}) records[i] = {records[i].type, 0, {}, {}};  // the index and the end
  return put_together(records);
}

/// What is said of the cost of a file that asks for `free` tokens and one for each of its bytes, and for some more.
std::string said_of_cost(std::uint64_t free, std::uint64_t more, const std::function<Bytes(std::uint64_t)>& make) {
  const std::uint64_t bytes = make(3 * free).size();
  const Bytes container = make(free + bytes + more);
  REQUIRE(container.size() == bytes);  // its numbers have as many digits
  return said_of([&] { open_kvz(ByteView(container))->check_cost(); });
}

}  // namespace

TEST_CASE("record limits: streams of a frame") {
  const Pipeline pipeline = Pipeline::parse("quant:bits=4,pack");
  TileContext context;
  context.heads = context.head_dim = 1;
  context.total_tokens = 1;
  context.source = DType::f16;
  const auto frame = [](std::uint64_t streams) {
    ByteWriter out;
    out.put(std::uint8_t{0});
    out.put_varint(0);
    out.put_varint(streams);
    for (std::uint64_t i = 0; i < streams; ++i) {
      out.put(std::uint8_t{1 << 4});  // of a stage that is not there
      out.put_varint(0);
      out.put_varint(0);
    }
    return std::move(out.bytes());
  };
  Bytes elements(2);
  const Bytes most = frame(limits::kStreams), more = frame(limits::kStreams + 1);
  const FrameSizes sizes = Pipeline::sizes(most, most.size());
  CHECK(std::accumulate(sizes.bytes.begin(), sizes.bytes.end(), std::uint64_t{0}) == most.size());
  CHECK(says([&] { pipeline.decode(context, {1, 1}, most, elements); }, "a stream is missing"));
  const std::string refusal = fmt::format("a frame of {} streams", limits::kStreams + 1);
  CHECK(says([&] { Pipeline::sizes(more, more.size()); }, refusal));
  CHECK(says([&] { pipeline.decode(context, {1, 1}, more, elements); }, refusal));
}

TEST_CASE("record limits: no pipeline makes more streams of a frame than are read") {
  // Keys and values of different widths, each with streams of its own.
  TileContext context;
  context.role = Role::pair;
  context.heads = context.head_dim = 0;
  context.total_tokens = 64;
  context.source = DType::f32;
  context.members = {{{0, 1, 4}, Role::key, 0}, {{4, 1, 2}, Role::value, 0}};
  const TileShape shape{64, 6};
  const Bytes zeros(std::size_t{64} * 6 * 4);
  const auto coded = [&](std::size_t stages, Bytes& decoded) {
    std::string text;
    for (std::size_t i = 0; i < stages; ++i) text += "klt:bits=1,";
    Pipeline pipeline = Pipeline::parse(text + "pack");
    pipeline.resolve(context, shape);
    const Bytes payload = pipeline.encode(context, shape, zeros, nullptr, nullptr, {});
    decoded.resize(zeros.size(), std::byte{1});
    pipeline.decode(context, shape, payload, decoded);
    ByteReader in(payload);
    CHECK(in.get<std::uint8_t>() == 0);
    CHECK(in.get_varint() == 0);
    return in.get_varint();
  };
  Bytes decoded;
  const std::uint64_t each = coded(1, decoded);
  const std::uint64_t most = limits::kStreams / each;
  REQUIRE(most < limits::kStages);
  CHECK(coded(most, decoded) == most * each);
  CHECK(decoded == zeros);
  CHECK(says([&] { coded(most + 1, decoded); }, fmt::format("{} streams of a frame", (most + 1) * each)));
}

TEST_CASE("record limits: tensors of a tile that state their heads") {
  const auto header = [](std::size_t slots) {
    Json header = sample_header();
    Json tensor = header["tensors"][0], group = header["groups"][0];
    tensor["shape"] = Json::array({slots, 1, 1});
    tensor["axes"] = "LTD";
    tensor.erase("layer");
    header["model"]["layers"] = slots;
    group.erase("heads");
    group.erase("head_dim");
    group["slots"] = Json::array();
    for (std::size_t layer = 0; layer < slots; ++layer) {
      const Json fixed = Json::array({layer, nullptr, nullptr});
      group["slots"].push_back({{"tensor", 0}, {"fixed", fixed}, {"heads", 1}, {"head_dim", 1}});
    }
    header["tensors"] = Json::array({tensor});
    header["groups"] = Json::array({group});
    return header.dump();
  };
  const KvzHeader most = read_kvz_header(header(limits::kMembers), kMembersFeature);
  CHECK(most.plan.groups.at(0).context.members.size() == limits::kMembers);
  CHECK(says([&] { read_kvz_header(header(limits::kMembers + 1), kMembersFeature); },
             fmt::format("{} tensors in one tile", limits::kMembers + 1)));
}

TEST_CASE("record limits: bytes of all tables") {
  CHECK(limits::room_for_table(0, 0, limits::kTableBytes));
  CHECK_FALSE(limits::room_for_table(0, 0, limits::kTableBytes + 1));
  CHECK(limits::room_for_table(limits::kTables - 1, 0, 1));
  CHECK_FALSE(limits::room_for_table(limits::kTables, 0, 1));
  CHECK(limits::room_for_table(1, limits::kTablesBytes - 1, 1));
  CHECK_FALSE(limits::room_for_table(1, limits::kTablesBytes - 1, 2));
  CHECK(limits::room_for_table(1, limits::kTablesBytes, 0));
  CHECK_FALSE(limits::room_for_table(1, limits::kTablesBytes, 1));
}

TEST_CASE("record limits: a payload is as long as its values ask, or there are none") {
  CHECK(limits::least_payload(limits::kFreeValues + limits::kValuesPerByte - 1) == 1);
  CHECK(limits::least_payload(limits::kFreeValues + limits::kValuesPerByte) == 2);
  const std::uint64_t bytes = 64, channels = 64;
  const auto rows = static_cast<std::uint32_t>((limits::kFreeValues + bytes * limits::kValuesPerByte) / channels);
  const Pipeline pipeline = Pipeline::parse("planes,zstd");
  TileContext context;
  context.role = Role::key;
  context.heads = 1;
  context.head_dim = channels;
  context.total_tokens = rows;
  context.source = DType::f16;
  const Bytes zeros(std::uint64_t{rows} * channels * 2);
  const Bytes least = pipeline.encode(context, {rows, channels}, zeros, nullptr, nullptr, {});
  REQUIRE(least.size() == bytes + 1);  // what zeros need is less
  Bytes out(zeros.size(), std::byte{1});
  pipeline.decode(context, {rows, channels}, least, out);
  CHECK(out == zeros);
  CHECK(says(
      [&] {
        pipeline.decode(context, {rows, channels}, ByteView(least).first(bytes), out);
      },
      "too short for its values"));
}

TEST_CASE("record limits: a file may ask for what its bytes earn, to the last multiplication and byte") {
  // A row has as much work, and then as many bytes, as a byte of the file earns.
  const std::uint64_t rank = 256;
  REQUIRE(static_cast<double>(rank * rank) == limits::kWorkPerByte);
  const std::string lowrank = fmt::format("quant:bits=2,lowrank:rank={},pack", rank);
  const auto free_work = static_cast<std::uint64_t>(limits::kFreeWork / limits::kWorkPerByte);
  const auto work = [&](std::uint64_t tokens) {  // that of one token more (man/kvz.5, "Cost")
    return claiming(lowrank, DType::f16, tokens - 1, rank, 2 * free_work);
  };
  CHECK(said_of_cost(free_work, 0, work).empty());
  CHECK(said_of_cost(free_work, 1, work).find("multiplications to be decoded: more than") != std::string::npos);

  const std::uint64_t free_rows = limits::kFreeBytes / limits::kBytesPerByte;
  const auto elements = [&](std::uint64_t tokens) {
    return claiming("quant:bits=2,pack", DType::f64, tokens, limits::kBytesPerByte / 8, 2 * free_rows);
  };
  CHECK(said_of_cost(free_rows, 0, elements).empty());
  CHECK(said_of_cost(free_rows, 1, elements).find("GB: more than files of kvzip do") != std::string::npos);
}

TEST_CASE("record limits: frames that are missing from what is left of a container") {
  auto reader = sample_reader({{"k", DType::f16, {1, 6, 1}, Role::key, 0, "HTD"}});
  const KvzOptions options = options_of("restart = 3\nkey = carry:of=last,quant:bits=5:axis=token,ac", 1);
  const RawRecord written = take_apart(compressed(*reader, options)).at(0);
  // One part, so that all of its frames are asked for at once; and not one of them is there.
  const auto without = [&](std::uint64_t frames) {
    Json header = Json::parse(header_text(written));
    header["tensors"][0]["shape"] = Json::array({1, frames, 1});
    header["groups"][0]["restart"] = frames;
    return put_together({header_record(header.dump())}, 1, kChainedFeature);
  };
  const std::uint64_t bytes = without(limits::kFreeLostFrames).size();
  const std::uint64_t most = limits::kFreeLostFrames + limits::kLostFramesPerByte * bytes;
  const auto fetched = [&](std::uint64_t frames) {
    const Bytes left = without(frames);
    REQUIRE(left.size() == bytes);
    const MemoryFile file(left);
    InputStream stream = stream_of(file);
    const auto salvage = open_salvage(stream);
    Part part = salvage->part(0);
    salvage->fetch(part);
    return part.coded.size();
  };
  CHECK(fetched(most) == most);
  CHECK(says([&] { fetched(most + 1); }, fmt::format("{} frames are missing from {} bytes", most + 1, bytes)));
  const Trusting trusting;
  CHECK(fetched(most + 1) == most + 1);
}

TEST_CASE("record limits: bytes of what looks like the beginning of a record and is none") {
  // Headers one after the other, each of a record to nearly the end of the file, whose checksum never is right.
  const std::uint64_t size = std::uint64_t{1} << 20;
  const std::uint64_t most = limits::kFreeWaste + limits::kWastePerByte * size;
  const auto scanned = [&](std::uint64_t waste) {
    Bytes bytes(size);
    std::uint32_t headers = 0;
    for (std::uint64_t left = waste; left != 0; ++headers) {
      const std::uint64_t at = headers * kRecordHeaderBytes, of_this = std::min(left, size - 1 - at);
      REQUIRE(of_this > kRecordOverhead);
      const std::uint64_t payload = of_this - kRecordOverhead;
      const auto header = make_record_header({record_type(RecordType::frame), 0, payload, payload, headers});
      std::copy(header.begin(), header.end(), bytes.begin() + static_cast<std::ptrdiff_t>(at));
      left -= of_this;
    }
    const MemoryFile file(bytes);
    InputStream stream = stream_of(file);
    RecordScan scan(stream);
    CHECK_FALSE(scan.next());
    CHECK(scan.stray_bytes() == size);
  };
  CHECK(said_of([&] { scanned(most); }).empty());
  CHECK(says([&] { scanned(most + 1); }, "more bytes look like the beginning of a record than any damage makes"));
  const Trusting trusting;
  CHECK(said_of([&] { scanned(most + 1); }).empty());
}

}  // namespace kvzip::test
