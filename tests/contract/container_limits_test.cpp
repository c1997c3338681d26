// SPDX-License-Identifier: Apache-2.0
// What a file may cost: memory only for what its bytes have earned; and writers stay within what readers allow.
#include <fmt/format.h>

#include <algorithm>

#include "tests/contract/hostile_containers.hpp"

namespace kvzip::test {

TEST_CASE("a kilobyte cannot buy a large header") {
  const auto zipped = [](std::string_view text, std::optional<std::uint64_t> decoded = {}) {
    return with_records([&](auto& r) {
      // As numbers: free bytes that unfold as far as some of these stay plain.
      Stream s = element_stream(StreamLabel::codes, 1, static_cast<std::uint32_t>(text.size()), 1);
      s.data.resize(text.size());
      std::ranges::copy(text, reinterpret_cast<char*>(s.data.data()));
      Bytes table, body;
      for (const auto& row : coder_table()) {
        if (row.name == "zstd") row.make()->encode(s, table, body);
      }
      r[0] = {record_type(RecordType::header), kZstdPayload, Bytes(body.begin() + 1, body.end()),
              decoded.value_or(text.size())};
    });
  };
  const auto list = [](std::string_view item, std::size_t bytes) {
    std::string text;
    while (text.size() < bytes) text += item;
    return text;
  };
  check_refused(zipped(std::string(50 << 20, ' ')), ErrorCode::limit);        // unfolds too far
  check_refused(zipped(std::string(1 << 20, ' '), 100), ErrorCode::corrupt);  // says less than there is
  check_refused(zipped(std::string(100, ' '), 1 << 12), ErrorCode::corrupt);  // says more
  check_refused(zipped(" ", std::uint64_t{1} << 40), ErrorCode::limit);
  check_refused(with_records([](auto& r) { r[0].decoded = 7; }), ErrorCode::corrupt);
  // Near the allowed unfolding, with what costs most memory per byte of text.
  const std::string pad = R"(,"pad":")";
  Random random(1);
  std::string noise;
  for (int i = 0; i < 700; ++i) noise += static_cast<char>('a' + random.below(26));
  const std::size_t most = 500000;
  const std::string head = R"({"writer":")" + noise + R"(","preset":"","user":)", tail = "}";
  check_refused(zipped(head + list("[", most)), ErrorCode::corrupt);
  check_refused(zipped(head + list("{\"a\":", most)), ErrorCode::corrupt);
  check_refused(zipped(head + "[" + list("0,", most) + "0]}"), ErrorCode::corrupt);
  check_refused(zipped(head + "[" + list("[],", most) + "0]}"), ErrorCode::corrupt);
  check_refused(zipped(head + "[" + list("{},", most) + "0]}"), ErrorCode::corrupt);
  check_refused(zipped(head + "[" + list("[\"\",\"\"],", most) + "0]}"), ErrorCode::corrupt);
  Json header = sample_header();
  header["writer"] = noise;
  header["tensors"][0]["shape"] = Json(std::vector<int>(most / 2, 0));
  check_refused(zipped(header.dump()), ErrorCode::corrupt);
  header = sample_header();
  header["writer"] = noise;
  for (std::size_t i = 0; i < most / 70; ++i) {
    header["tensors"].push_back({{"name", fmt::format("{}", i)},
                                 {"dtype", "U8"},
                                 {"shape", Json::array({0})},
                                 {"role", "other"},
                                 {"axes", ""},
                                 {"why", ""}});
    header["groups"].push_back(
        {{"pipeline", 1}, {"role", "other"}, {"tensor", header["tensors"].size() - 1}, {"bytes", 1}});
  }
  const Bytes many = zipped(header.dump());
  for (const Outcome& o : {by_index(many), as_stream(many)}) {
    CAPTURE(o.message);
    CHECK_FALSE(o.code);
  }
}

TEST_CASE("a kilobyte cannot buy many values") {
  struct Bomb {
    DType type;
    std::string pipeline;
  };
  for (const Bomb& bomb :
       {Bomb{DType::f64, "planes,zstd"}, Bomb{DType::f64, "planes,ac"}, Bomb{DType::f32, "planes,pack"},
        Bomb{DType::f64, "norm,delta:ref=previous,quant:levels=65535:group=2,lowrank:rank=1,ac"},
        Bomb{DType::f64, "outliers:share=0.5:axis=token,quant:axis=token:group=1,zstd"},
        Bomb{DType::f16, "quant:bits=8,ac:model=static"}, Bomb{DType::f16, "quant:levels=31,ac:model=cachegen"}}) {
    CAPTURE(bomb.pipeline);
    const std::uint64_t tokens = 1000, dim = 900;
    auto reader = sample_reader({{"k", bomb.type, {1, tokens, dim}, Role::key, 0, "HTD"}}, Fill::zeros);
    const std::string rules = "key = " + bomb.pipeline;
    auto records = take_apart(compressed(*reader, options_of(rules, 0)));
    records[2] = {records[2].type, 0, {}, {}};
    records[3] = {records[3].type, 0, {}, {}};
    // As it was written, and with nothing but what the directory and the streams claim.
    Random random(9);
    for (int i = 0; i < 8; ++i) {
      Bytes payload(900);
      const std::size_t real = std::min(payload.size(), records[1].payload.size());
      std::copy_n(records[1].payload.begin(), real, payload.begin());
      for (int j = 0; j < i; ++j)
        payload[random.below(std::min<std::size_t>(real, 64))] = static_cast<std::byte>(random.next());
      records[1].payload = payload;
      const Bytes container = put_together(records);
      by_index(container);
      as_stream(container);
    }
  }
}

TEST_CASE("writers keep within the limits of readers, however well a description would compress") {
  // An attribute of zeros, and an index of very many equal frames.
  auto reader = sample_reader({{"k", DType::f16, {1, 40000, 1}, Role::key, 0, "HTD"}}, Fill::zeros);
  const_cast<Dump&>(reader->dump()).attributes = {{"", "zeros", {}, DType::u8, {1 << 20}, Bytes(std::size_t{1} << 20)}};
  const Bytes container = compressed(*reader, options_of("key = planes,pack", 1));
  CHECK(decompressed(container) == originals(*reader));
  CHECK(decompressed_stream(container) == originals(*reader));
  const MemoryFile file(container);
  CHECK(open_kvz(file.path())->dump().attributes == reader->dump().attributes);
}

}  // namespace kvzip::test
