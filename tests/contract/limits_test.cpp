// SPDX-License-Identifier: Apache-2.0
// Each limit at its edge: what reaches it is taken, what is one beyond is refused.
#include "codec/limits.hpp"

#include <cmath>

#include "codec/pipeline.hpp"
#include "codec/splitmix64.hpp"
#include "formats/json_limits.hpp"
#include "formats/kvz/kvz_header.hpp"
#include "formats/kvz/kvz_tables.hpp"
#include "kvzip/tile_codec.hpp"
#include "tests/contract/hostile_containers.hpp"

namespace kvzip::test {
namespace {

template <typename F>
std::optional<ErrorCode> code_of(F&& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.code();
  }
  return std::nullopt;
}

/// What is said of the error; nothing where there is none.
std::string said_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return {};
}

std::string repeated(std::string_view text, std::size_t times) {
  std::string all;
  for (std::size_t i = 0; i < times; ++i) all += text;
  return all;
}

/// A header whose one group of keys has so many tokens, in chunks of so many.
Json tall_header(std::uint64_t tokens, std::uint64_t chunk, std::uint64_t channels = 1) {
  Json header = sample_header();
  Json tensor = header["tensors"][0], group;
  for (const Json& g : header["groups"]) {
    if (group.is_null() && g.contains("slots")) group = g;
  }
  tensor["shape"] = Json::array({1, tokens, channels});
  group["chunk"] = chunk;
  group["heads"] = 1;
  group["head_dim"] = channels;
  group["slots"] = Json::array({{{"tensor", 0}, {"fixed", Json::array({nullptr, nullptr, nullptr})}}});
  header["tensors"] = Json::array({tensor});
  header["groups"] = Json::array({group});
  return header;
}
std::optional<ErrorCode> header_code(const Json& header) {
  return code_of([&] { read_kvz_header(header.dump(), 0); });
}

}  // namespace

TEST_CASE("limits: JSON is as deep and as rich as a reader allows, and no more") {
  const auto deep = [](std::size_t n) { return repeated("[", n) + repeated("]", n); };
  CHECK_FALSE(code_of([&] { check_json(deep(limits::kJsonDepth), "text"); }));
  CHECK(code_of([&] { check_json(deep(limits::kJsonDepth + 1), "text"); }) == ErrorCode::corrupt);
  const auto rich = [](std::size_t items) { return "[" + std::string(items - 1, ',') + "]"; };
  CHECK_FALSE(code_of([&] { check_json(rich(limits::kJsonItems), "text"); }));
  CHECK(code_of([&] { check_json(rich(limits::kJsonItems + 1), "text"); }) == ErrorCode::limit);
  CHECK_FALSE(code_of([&] { check_json("\"" + rich(limits::kJsonItems + 1) + "\\\"[[[[\"", "text"); }));
}

TEST_CASE("limits: stages and text of a pipeline") {
  const auto stages = [](std::size_t n) { return repeated("quant:bits=4,", n) + "pack"; };
  const Pipeline most = Pipeline::parse(stages(limits::kStages));
  CHECK(most.text() == stages(limits::kStages));
  CHECK(said_of([&] { Pipeline::parse(stages(limits::kStages + 1)); }) ==
        fmt::format("a pipeline has {} stages; {} are allowed", limits::kStages + 1, limits::kStages));
  // Where a stage more would be too many, padding is coded like everything else.
  CHECK(most.before_padding().text() == most.text());
  CHECK(Pipeline::parse(stages(limits::kStages - 1)).before_padding().text().starts_with("window"));
  const auto text = [](std::size_t bytes) {
    const std::string front = "quant:bits=", back = "4,pack";
    return front + std::string(bytes - front.size() - back.size(), '0') + back;
  };
  CHECK(Pipeline::parse(text(limits::kPipelineText)).text() == "quant:bits=4,pack");
  CHECK(said_of([&] { Pipeline::parse(text(limits::kPipelineText + 1)); }) ==
        fmt::format("a pipeline's text is longer than {} bytes", limits::kPipelineText));
}

TEST_CASE("limits: frames of a file and elements of a frame") {
  CHECK_FALSE(header_code(tall_header(limits::kFrames, 1)));
  CHECK(header_code(tall_header(limits::kFrames + 1, 1)) == ErrorCode::limit);
  CHECK_FALSE(header_code(tall_header(limits::kFrameValues, limits::kFrameValues)));
  CHECK(header_code(tall_header(limits::kFrameValues + 1, limits::kFrameValues + 1)) == ErrorCode::limit);
}

TEST_CASE("limits: dimensions of a tensor, for readers and for writers") {
  const auto with_rank = [](std::size_t n) {
    Json header = sample_header();
    for (Json& tensor : header["tensors"]) {
      if (tensor["role"] == "other") {
        for (Json& shape = tensor["shape"]; shape.size() < n;) shape.push_back(1);
      }
    }
    return header;
  };
  CHECK_FALSE(header_code(with_rank(limits::kRank)));
  CHECK(header_code(with_rank(limits::kRank + 1)) == ErrorCode::corrupt);
  KvzHeader header = read_kvz_header(with_rank(limits::kRank).dump(), 0);
  CHECK_FALSE(code_of([&] { write_kvz_header(header); }));
  for (TensorInfo& info : header.dump.tensors) info.shape.resize(limits::kRank + 1, 1);
  CHECK(code_of([&] { write_kvz_header(header); }) == ErrorCode::limit);
}

TEST_CASE("limits: names and sizes of tables") {
  Tables tables;
  const std::string longest(limits::kTableName, 'n');
  CHECK_FALSE(code_of([&] { tables.add(longest, TableType::klt, Bytes(8)); }));
  CHECK(code_of([&] { tables.add(longest + 'n', TableType::klt, Bytes(8)); }) == ErrorCode::invalid_argument);
  const auto read = [](const std::string& name) {
    const Bytes payload = table_payload({name, TableType::klt, {}, hash64({})});
    Tables found;
    return said_of([&] {
      take_table({{record_type(RecordType::table), 0, payload.size(), payload.size(), 0}, payload, hash64(payload)},
                 found);
    });
  };
  CHECK(read(longest).empty());
  CHECK(read(longest + 'n') == "a table with a damaged name");
  CHECK_FALSE(code_of([&] { tables.add("large", TableType::klt, Bytes(limits::kTableBytes)); }));
  CHECK(code_of([&] { tables.add("larger", TableType::klt, Bytes(limits::kTableBytes + 1)); }) == ErrorCode::limit);
  Tables many;
  for (std::size_t i = 0; i < limits::kTables; ++i) many.add(fmt::format("n{}", i), TableType::klt, {});
  CHECK(code_of([&] { many.add("one-more", TableType::klt, {}); }) == ErrorCode::limit);
}

TEST_CASE("limits: records of descriptions and results") {
  const auto header = [](RecordType type, std::uint64_t stored, std::uint64_t decoded, std::uint16_t flags) {
    return make_record_header({record_type(type), flags, stored, decoded, 0});
  };
  const auto results = [&](std::uint64_t bytes) {
    return code_of([&] { parse_record_header(header(RecordType::results, bytes, bytes, 0), 0); });
  };
  CHECK_FALSE(results(limits::kResults));
  CHECK(results(limits::kResults + 1) == ErrorCode::corrupt);
  // Bytes that are no zstd frame: whoever starts to unpack them finds damage.
  const auto unpacked = [&](std::uint64_t stored, std::uint64_t decoded) {
    const RecordHeader h{record_type(RecordType::header), kZstdPayload, stored, decoded, 0};
    return code_of([&] { unpack_description(h, Bytes(stored)); });
  };
  CHECK(unpacked(10, 11 * limits::kDescriptionRatio - 1) != ErrorCode::limit);
  CHECK(unpacked(10, 11 * limits::kDescriptionRatio) == ErrorCode::limit);
  // What is free, and then what each stored byte earns.
  const std::uint64_t beyond = limits::kFreeDescription + 0x10001 * limits::kDescriptionPerByte;
  CHECK(unpacked(0x10000, beyond - 1) != ErrorCode::limit);
  CHECK(unpacked(0x10000, beyond) == ErrorCode::limit);
  const std::uint64_t most = (limits::kDescription - limits::kFreeDescription) / limits::kDescriptionPerByte;
  CHECK(unpacked(most, limits::kDescription) != ErrorCode::limit);
  CHECK(unpacked(most + 1, limits::kDescription + 1) == ErrorCode::limit);
  const Trusting trusting;
  CHECK(unpacked(limits::kDescription / limits::kDescriptionRatio, limits::kDescription) != ErrorCode::limit);
  CHECK(unpacked(limits::kDescription / limits::kDescriptionRatio + 1, limits::kDescription + 1) == ErrorCode::limit);
}

TEST_CASE("limits: a header that unfolds to more than its bytes have earned is refused, unless trusted") {
  // Hexadecimal digits that take half their bytes, and blanks that take none.
  Json header = sample_header();
  std::string digits;
  for (std::uint32_t i = 0; i < 8000; ++i) digits += fmt::format("{:08x}", i * 2654435761u);
  header["digits"] = digits;
  header["blanks"] = std::string(std::size_t{24} << 20, ' ');
  const std::string text = header.dump();
  auto records = sample_records();
  const Packed packed = pack_description(std::as_bytes(std::span(text)), limits::kDescription);
  REQUIRE(packed.flags == kZstdPayload);
  records[0] = {records[0].type, packed.flags, packed.stored, text.size()};
  const Bytes bomb = put_together(records);
  check_refused(bomb, ErrorCode::limit, "a description of");
  CHECK(pack_description(std::as_bytes(std::span(text))).flags == 0);  // as a writer stores it
  const Trusting trusting;
  CHECK_FALSE(code_of([&] { open_kvz(ByteView(bomb)); }));
}

TEST_CASE("limits: what a header has beside what a reader asks for takes no more than its text") {
  std::string text = sample_header().dump();
  text.insert(1, "\"lists\":[" + repeated("[],", 1000000) + "{}],\"name\":\"" + std::string(1000000, 'n') + "\",");
  const std::size_t before = allocated_now();
  reset_allocated_most();
  read_kvz_header(text, 0);
  CHECK(allocated_most() - before < 3 * text.size());  // buffers that grow
}

TEST_CASE("limits: what tables may unfold to") {
  // 2048 bytes that zstd cannot pack, and zeros that take next to nothing.
  const auto table = [](std::uint64_t bytes) {
    Bytes out(bytes);
    for (std::size_t i = 0; i < 2048; ++i) out[i] = static_cast<std::byte>(splitmix64(1, i));
    return out;
  };
  const std::uint64_t more = 1 << 19;
  const auto taken = [&](std::uint64_t before, std::uint64_t bytes) {
    Tables tables;
    tables.add("before", TableType::klt, Bytes(before));
    const Bytes payload = table_payload({"a", TableType::klt, table(bytes), hash64(table(bytes))});
    const Packed packed = pack_description(payload, limits::kTableBytes);
    REQUIRE(packed.flags == kZstdPayload);
    REQUIRE(packed.stored.size() * limits::kDescriptionPerByte < more);
    const RecordHeader h{record_type(RecordType::table), packed.flags, packed.stored.size(), payload.size(), 0};
    return code_of([&] { take_table({h, packed.stored, hash64(packed.stored)}, tables); });
  };
  CHECK_FALSE(taken(0, limits::kFreeTables - 100));
  CHECK(taken(0, limits::kFreeTables + more) == ErrorCode::limit);
  CHECK_FALSE(taken(limits::kFreeTables / 4, 3 * limits::kFreeTables / 4 - 100));
  CHECK(taken(limits::kFreeTables / 4, 3 * limits::kFreeTables / 4 + more) == ErrorCode::limit);
  // A writer stores the same as it is.
  CHECK(pack_description(table(limits::kFreeTables + more), limits::kFreeTables).flags == 0);
}

TEST_CASE("limits: what a file's bytes earn") {
  const double stored = 1000;
  const double work = limits::kFreeWork + limits::kWorkPerByte * stored;
  CHECK(limits::earned(work, 0, stored));
  CHECK_FALSE(limits::earned(work + 1, 0, stored));
  const std::uint64_t bytes = limits::kFreeBytes + limits::kBytesPerByte * 1000;
  CHECK(limits::earned(0, static_cast<double>(bytes), stored));
  CHECK_FALSE(limits::earned(0, static_cast<double>(bytes + 1), stored));
  CHECK(limits::earning_payload(limits::kWorkPerByte * 7, 0) == 7);
  CHECK(limits::earning_payload(limits::kWorkPerByte * 8 - 1, limits::kBytesPerByte * 9 + 1) == 9);
  CHECK(limits::earning_payload(limits::kWorkPerByte * 8, limits::kBytesPerByte * 8 - 1) == 8);
}

TEST_CASE("limits: the work of a tile follows from what is declared, as the manual says") {
  TileContext context;
  context.role = Role::key;
  context.heads = 3;
  context.head_dim = 100;
  context.total_tokens = 700;
  context.source = DType::f16;
  const TileShape shape{700, 300};
  const auto work = [&](std::string_view text) { return Pipeline::parse(text).work(context, shape); };
  CHECK(work("quant:bits=4,rans") == 0);
  CHECK(work("planes,zstd") == 0);
  CHECK(work("lowrank:rank=8,pack") == 701.0 * 3 * 100 * 8);
  CHECK(work("lowrank:rank=1024,pack") == 701.0 * 3 * 100 * 100);
  CHECK(work("lowrank:rank=1024:per=tile,pack") == 701.0 * 300 * 300);
  CHECK(work("quant,lowrank:rank=2,lowrank:rank=3,pack") == 701.0 * 300 * (2 + 3));
  CHECK(work("klt,deflate") == 701.0 * 300 * 300);
  CHECK(work("klt:per=head,deflate") == 701.0 * 300 * 100);
  CHECK(work("adapt:width=none,rans") == 0);
  // Runs of a part of 256 columns: 64 rows at first, then half of what is there.
  double runs = 0;
  for (std::uint32_t at = 0; at < 700; at += std::max({16u, 256u / 4, at / 2})) ++runs;
  CHECK(work("adapt:width=256,rans") == 300.0 * 256 * (2 * 700 + 3 * runs * 256) / 16);
  // 64 rows, as many again, twice as many, ..
  CHECK(work("adapt:width=128:growth=1,rans") == 300.0 * 128 * (2 * 700 + 3 * 5 * 128) / 16);
}

TEST_CASE("limits: files that earn their work are read, others are refused before any of it") {
  // Zeros take next to nothing, so that all there is of a payload is what its work has to earn.
  const std::uint64_t tokens = 4096, heads = 1, dim = 1024;
  auto reader = sample_reader({{"k", DType::f16, {heads, tokens, dim}, Role::key, 0, "HTD"}}, Fill::zeros);
  for (const char* pipeline : {"quant:bits=2,lowrank:rank=512,pack", "klt:bits=1,pack", "adapt:width=512,rans"}) {
    CAPTURE(pipeline);
    const std::string rules = fmt::format("key = {}", pipeline);
    const Bytes honest = compressed(*reader, options_of(rules, 0));
    auto records = take_apart(honest);
    const auto values = static_cast<std::uint64_t>(tokens * heads * dim);
    TileContext context;
    context.role = Role::key;
    context.heads = heads;
    context.head_dim = dim;
    context.total_tokens = tokens;
    context.source = DType::f16;
    const double work = Pipeline::parse(pipeline).work(context, {static_cast<std::uint32_t>(tokens), dim});
    REQUIRE(records[1].type == record_type(RecordType::frame));
    CHECK(records[1].payload.size() >= limits::earning_payload(work, 2 * values));
    CHECK(records[1].payload.size() >= limits::least_payload(values));
    REQUIRE(limits::earned(work, 2.0 * static_cast<double>(values), static_cast<double>(honest.size())));
    CHECK_FALSE(code_of([&] { open_kvz(ByteView(honest))->check_cost(); }));
  }
}

TEST_CASE("limits: a container that asks for far too much is refused, from a file and from a pipe, unless trusted") {
  // 2^23 elements through low-rank products of rank 1024: 2^33 multiplications for 9 kB.
  auto reader = sample_reader({{"k", DType::f16, {1, 16, 1024}, Role::key, 0, "HTD"}}, Fill::zeros);
  auto records = take_apart(compressed(*reader, options_of("key = quant:bits=2,lowrank:rank=1024,pack", 0)));
  Json header = Json::parse(header_text(records[0]));
  header["tensors"][0]["shape"] = Json::array({1, 8192, 1024});
  header["groups"][0]["chunk"] = 8192;
  records[0] = header_record(header.dump());
  records[1] = {records[1].type, 0, Bytes(limits::least_payload(8192 * 1024)), {}};
  records[2] = {records[2].type, 0, {}, {}};
  records[3] = {records[3].type, 0, {}, {}};
  const Bytes bomb = put_together(records);
  check_refused(bomb, ErrorCode::limit, "multiplications");
  {
    const Trusting trusting;
    check_refused(bomb, ErrorCode::truncated);  // now it is decoded, and has no streams
  }
  // Elements alone: 2^30 bytes of F64 for 131 kB.
  auto wide = sample_reader({{"k", DType::f64, {1, 16, 1024}, Role::key, 0, "HTD"}}, Fill::zeros);
  records = take_apart(compressed(*wide, options_of("key = quant:bits=2,pack", 0)));
  header = Json::parse(header_text(records[0]));
  header["tensors"][0]["shape"] = Json::array({1, 131072, 1024});
  header["groups"][0]["chunk"] = 131072;
  records[0] = header_record(header.dump());
  records[1] = {records[1].type, 0, Bytes(limits::least_payload(131072 * 1024)), {}};
  records[2] = {records[2].type, 0, {}, {}};
  records[3] = {records[3].type, 0, {}, {}};
  check_refused(put_together(records), ErrorCode::limit, "would become");
}

TEST_CASE("limits: a tile codec asks of its bytes what a file's reader does") {
  TileFormat format;
  format.role = Role::key;
  format.dtype = DType::f16;
  format.heads = 1;
  format.head_dim = 1024;
  const TileCodec codec("quant:bits=2,lowrank:rank=1024,pack", format, 8192);
  Bytes elements(std::size_t{8192} * 1024 * 2);
  const Bytes bomb(limits::least_payload(8192 * 1024));
  CHECK(code_of([&] { codec.decode(bomb, elements); }) == ErrorCode::limit);
  const Trusting trusting;
  CHECK(code_of([&] { codec.decode(bomb, elements); }) == ErrorCode::truncated);
}

}  // namespace kvzip::test
