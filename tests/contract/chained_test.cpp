// SPDX-License-Identifier: Apache-2.0
// Containers whose frames need the ones before them: restart points, reading from anywhere, damage, hostile headers.
#include <doctest/doctest.h>

#include <numeric>

#include "formats/kvz/kvz_plan.hpp"
#include "formats/selection.hpp"
#include "kvzip/metrics.hpp"
#include "tests/contract/hostile_containers.hpp"

namespace kvzip::test {
namespace {

constexpr std::uint64_t kTokens = 45, kChunk = 4;  // 12 frames, the last of one token
constexpr std::string_view kRules =
    "key = carry:of=last,uniform:step=0.01,rans\nvalue = carry:weight=0.9:decay=0.8,quant:bits=5:axis=token,rans\n";

std::string with_restart(std::string_view rules, std::string_view restart) {
  return fmt::format("restart = {}\n{}", restart, rules);
}
Bytes chained(MemoryReader& reader, std::string_view restart, std::string_view rules = kRules, unsigned threads = 1) {
  return compressed(reader, options_of(with_restart(rules, restart), kChunk), threads);
}
std::unique_ptr<MemoryReader> two_layers(Fill fill = Fill::ordinary) {
  return sample_reader(sample_specs(2, kTokens), fill);
}
PreludeInfo prelude_of(const Bytes& container) {
  return check_prelude(load<Prelude>(container, 0));
}
std::vector<RawRecord> plain_records(const Bytes& container) {
  auto records = take_apart(container);
  records[0] = header_record(header_text(records[0]));
  for (RawRecord& r : records) {
    if (r.type == record_type(RecordType::index) || r.type == record_type(RecordType::end)) r = {r.type, 0, {}, {}};
  }
  return records;
}

/// A source that counts what is read from it.
class CountingSource final : public Source {
 public:
  CountingSource(ByteView bytes, std::uint64_t& count) : bytes_(bytes), count_(count) {}
  std::uint64_t size() const override { return bytes_.size(); }
  void read_at(std::uint64_t offset, std::span<std::byte> out) const override {
    std::memcpy(out.data(), bytes_.data() + offset, out.size());
    count_ += out.size();
  }

 private:
  ByteView bytes_;
  std::uint64_t& count_;
};

}  // namespace

TEST_CASE("chained: files and values do not depend on threads, nor on coming through a pipe") {
  const auto reader = two_layers();
  for (const std::string_view restart : {"1", "2", "3", "16", "all", "1000000000000"}) {
    CAPTURE(restart);
    const Bytes one = chained(*reader, restart);
    CHECK(one == chained(*reader, restart, kRules, 2));
    CHECK(one == chained(*reader, restart, kRules, 4));
    const auto values = decompressed(one);
    CHECK(values == decompressed(one, 2));
    CHECK(values == decompressed(one, 4));
    CHECK(values == decompressed_stream(one));
    CHECK(prelude_of(one).minor == 1);
    CHECK(prelude_of(one).features == kChainedFeature);
    // restart = 1 is what independent frames are: nothing is carried.
    const auto alone = decompressed(compressed(
        *reader, options_of("key = uniform:step=0.01,rans\nvalue = quant:bits=5:axis=token,rans\n", kChunk)));
    CHECK((values == alone) == (restart == "1"));
    for (std::size_t t = 1; t <= 4; ++t) {
      const double bound = t % 2 == 1 ? 0.01 : 1;  // the step; two steps of a token of largest values
      CHECK(*largest_difference(DType::f16, reader->data(t), DType::f16, values[t]) <= bound);
    }
  }
}

TEST_CASE("chained: any tokens can be read on their own, and are those of the whole") {
  for (const std::string_view scope : {"{0}{1}", "key/head{0}{1}", "kv/layers=2"}) {
    const std::string rules = scope == "kv/layers=2" ? "kv/layers=2 = carry:decay=0.9,uniform:step=0.02,rans\n"
                              : scope == "{0}{1}"    ? std::string(kRules)
                                                  : "key/head = carry,uniform:step=0.02,rans\nvalue/head = planes,pack";
    CAPTURE(rules);
    const auto reader = two_layers();
    for (const std::string_view restart : {"1", "2", "5", "all"}) {
      CAPTURE(restart);
      const MemoryFile file(chained(*reader, restart, rules));
      const auto whole = values_of(*open_kvz(file.path()));
      const Dump& dump = reader->dump();
      for (std::size_t t = 1; t <= 4; ++t) {
        for (const auto& [first, count] : {std::pair{0u, 1u}, {3u, 2u}, {7u, 9u}, {39u, 6u}, {44u, 1u}, {0u, 45u}}) {
          const Slice slice{t, {1, first, 0}, {1, count, 4}};
          Bytes out(count * 4 * 2);
          open_kvz(file.path())->read(slice, out);
          CHECK(out == gather(dump.tensors[t], whole[t], slice));
        }
      }
      // A selection of tokens, from a file and from a pipe.
      const Selection middle = parse_selection("", "9:31", "");
      const Slice kept{3, {0, 9, 0}, {2, 22, 4}};
      auto opened = open_kvz(file.path());
      const Recognition roles = *opened->recognition();
      const auto part = select(std::move(opened), roles, middle);
      CHECK(values_of(*part, 3)[3] == gather(dump.tensors[3], whole[3], kept));
      ::lseek(file.descriptor(), 0, SEEK_SET);
      InputStream stream(file.descriptor(), "stream");
      const auto piped = select(open_kvz(stream), roles, middle);
      CHECK(values_of(*piped)[3] == gather(dump.tensors[3], whole[3], kept));
    }
  }
}

TEST_CASE("chained: reading on and on costs each frame once, and one token no more than its stretch") {
  const auto reader = sample_reader({{"k", DType::f32, {1, 400, 32}, Role::key, 0, "HTD"}});
  const Bytes container =
      compressed(*reader, options_of("restart = 5\nkey = carry,cast:to=f32,pack\n", 10));  // 40 frames, 8 stretches
  std::uint64_t count = 0;
  const auto opened = open_kvz(std::make_unique<CountingSource>(container, count));
  const std::uint64_t opening = count;
  Bytes out(32 * 4);
  opened->read({0, {0, 203, 0}, {1, 1, 32}}, out);
  CHECK(count - opening < container.size() / 7);
  for (std::uint64_t t = 0; t < 400; ++t) opened->read({0, {0, t, 0}, {1, 1, 32}}, out);
  CHECK(count - opening < container.size());
}

TEST_CASE("chained: a bound holds for what is really decoded, raw frames and all") {
  for (const Fill fill : {Fill::ordinary, Fill::specials}) {
    constexpr std::uint64_t kDim = 32;
    const auto reader = sample_reader(sample_specs(2, kTokens, DType::f16, 2, kDim), fill);
    // Two tokens are beyond the reach of the step's codes, so that frames 2 and 7 break the bound.
    std::vector<float> values = floats_of(DType::f16, reader->data(1));
    for (const std::uint64_t token : {9u, 30u}) {
      for (std::uint64_t d = 0; d < kDim; ++d) values[token * kDim + d] *= 2000;
    }
    from_float(DType::f16, values, reader->data(1));
    KvzOptions options = options_of(
        with_restart("key = carry,uniform:step=0.02,rans\nvalue = carry:of=last,quant:bits=3:axis=token,rans\n", "6"),
        kChunk);
    options.results.emplace();
    options.results->target = "max-error";
    options.results->wanted = options.results->max_error.emplace(0.125);
    const Bytes container = compressed(*reader, options);
    CHECK(container == compressed(*reader, options, 4));
    const MemoryFile file(container);
    const auto opened = open_kvz(file.path());
    const KvzSummary summary = opened->summary();
    const auto decoded = values_of(*opened);
    std::array<Distortion, 2> seen;
    for (std::size_t t = 1; t <= 4; ++t) {
      CHECK(*largest_difference(DType::f16, reader->data(t), DType::f16, decoded[t]) <= 0.125);
      const auto a = floats_of(DType::f16, reader->data(t)), b = floats_of(DType::f16, decoded[t]);
      seen[t % 2 == 0].add(a, b, kDim);
    }
    CHECK(summary.groups[1].raw_frames >= 2);
    CHECK(summary.groups[1].raw_frames < 6);  // others follow them
    REQUIRE(summary.results);
    REQUIRE(summary.results->errors.size() == 2);
    for (std::size_t side = 0; side < 2; ++side) {
      CHECK(summary.results->errors[side].values == seen[side].values());
      CHECK(summary.results->errors[side].max_abs == doctest::Approx(seen[side].max_abs()));
      CHECK(summary.results->errors[side].rmse == doctest::Approx(seen[side].rmse()));
    }
    CHECK(decoded == decompressed_stream(container));
  }
}

TEST_CASE("chained: frames that leave a trial stage out") {
  const auto reader = two_layers();
  for (const char* rules :
       {"key = delta,carry,quant:bits=8:axis=tile,rans\nvalue = carry,delta:ref=previous,quant:bits=8,ac",
        "kv = window:sink=3:recent=9,carry:of=last,outliers,norm,quant:bits=6,lowrank:rank=1,ac"}) {
    CAPTURE(rules);
    const Bytes container = chained(*reader, "5", rules);
    const auto values = decompressed(container, 2);
    CHECK(values == decompressed_stream(container));
    for (std::size_t t = 1; t <= 4; ++t) {
      CHECK(*largest_difference(DType::f16, reader->data(t), DType::f16, values[t]) < 4);
    }
  }
}

TEST_CASE("chained: a damaged frame takes the rest of its stretch with it and nothing else") {
  const auto reader = two_layers();
  const Bytes container = chained(*reader, "4");
  const auto values = decompressed(container);
  auto records = plain_records(container);
  records[2 + 5].payload[3] ^= std::byte{4};  // position_ids first; then frame 5 of the first key
  Bytes damaged = put_together(records, 1, kChainedFeature);
  const MemoryFile file(damaged);
  const auto opened = open_kvz(file.path());
  const auto reads = [&](std::uint64_t token) {
    Bytes out(4 * 2);
    const Slice slice{1, {0, token, 0}, {1, 1, 4}};
    try {
      opened->read(slice, out);
    } catch (const Error& e) {
      CHECK(e.code() == ErrorCode::corrupt);
      return false;
    }
    return out == gather(reader->dump().tensors[1], values[1], slice);
  };
  CHECK(reads(15));  // frame 3
  CHECK(reads(32));  // frame 8
  // The checksum is right: the frame decodes to something else, or is refused.
  reads(21);
  // With a wrong one the error names the frame.
  damaged = container;
  std::size_t at = kPreludeBytes;
  for (std::size_t r = 0; r < 7; ++r)
    at += kRecordHeaderBytes + load<std::uint64_t>(damaged, at + 8) + kRecordTailBytes;
  damaged[at + kRecordHeaderBytes + 3] ^= std::byte{1};
  check_refused(damaged, ErrorCode::corrupt, "layers.0.key, tokens 20-23");
  const MemoryFile other(damaged);
  for (const unsigned threads : {1u, 3u}) {
    const auto lines = verify_kvz(other.path(), threads, {});
    REQUIRE(lines.size() == 1);
    CHECK(lines[0].find("layers.0.key, tokens 20-31") != std::string::npos);
  }
  check_refused(Bytes(container.begin(), container.end() - 200), ErrorCode::truncated);
}

TEST_CASE("chained: damage behind right checksums is refused or decoded") {
  const auto reader = sample_reader({{"k", DType::f16, {1, 20, 4}, Role::key, 0, "HTD"}});
  const auto records = plain_records(
      compressed(*reader, options_of("restart = 3\nkey = carry:of=last,quant:bits=4:axis=token,ac\n", kChunk)));
  Random random(5);
  for (int i = 0; i < 400; ++i) {
    auto damaged = records;
    RawRecord& frame = damaged[1 + random.below(5)];
    const std::size_t byte = random.below(frame.payload.size());
    if (random.below(4) == 0) {
      frame.payload.resize(byte);
    } else {
      frame.payload[byte] ^= static_cast<std::byte>(1 + random.below(255));
    }
    const Bytes container = put_together(damaged, 1, kChainedFeature);
    const Outcome a = by_index(container), b = as_stream(container);
    CHECK(a.code == b.code);
    CHECK(a.values == b.values);
    if (a.code) CHECK((*a.code == ErrorCode::corrupt || *a.code == ErrorCode::truncated));
  }
}

TEST_CASE("chained: headers that contradict themselves about restart points are refused") {
  const auto reader = two_layers();
  auto records = plain_records(chained(*reader, "3"));
  const Json header = Json::parse(header_text(records[0]));
  CHECK(header["groups"][1]["restart"] == 3);
  CHECK_FALSE(header["groups"][0].contains("restart"));  // passes through
  const auto edited = [&](const std::function<void(Json&)>& edit, std::uint32_t features = kChainedFeature) {
    Json changed = header;
    edit(changed["groups"]);
    records[0] = header_record(changed.dump());
    return put_together(records, 1, features);
  };
  const auto same = [](Json&) {};
  CHECK_FALSE(by_index(edited(same)).code);
  CHECK_FALSE(as_stream(edited(same)).code);
  check_refused(edited(same, 0), ErrorCode::corrupt, "restart");
  check_refused(edited(same, kMembersFeature), ErrorCode::corrupt, "restart");
  const std::vector<std::function<void(Json&)>> edits{
      [](Json& g) { g[1].erase("restart"); },     [](Json& g) { g[1]["restart"] = 0; },
      [](Json& g) { g[1]["restart"] = -3; },      [](Json& g) { g[1]["restart"] = 1.5; },
      [](Json& g) { g[1]["restart"] = nullptr; }, [](Json& g) { g[0]["restart"] = 3; },
      [](Json& g) { g[0]["restart"] = 0; },
  };
  for (std::size_t i = 0; i < edits.size(); ++i) {
    CAPTURE(i);
    check_refused(edited(edits[i]), ErrorCode::corrupt, "restart");
  }
  // Any larger number is another file: frames are then decoded from other places.
  for (const std::uint64_t restart : {std::uint64_t{12}, std::uint64_t{1} << 40, ~std::uint64_t{0}}) {
    const Bytes file = edited([&](Json& g) { g[1]["restart"] = restart; });
    CHECK_FALSE(by_index(file).code);
    CHECK(by_index(file).values == as_stream(file).values);
  }
  // The flag needs a group that has it.
  for (const auto& edit : {std::function<void(Json&)>([](Json&) {}),
                           std::function<void(Json&)>([](Json& h) { h["groups"][2]["restart"] = 4; })}) {
    check_refused(with_header(edit, 1, kChainedFeature), ErrorCode::corrupt, "chained");
  }
  // Without it the member means nothing, as ever.
  CHECK_FALSE(by_index(with_header([](Json& h) { h["groups"][1]["restart"] = 4; })).code);
}

TEST_CASE("chained: stretches are refused before they are too long, by writers and readers") {
  Dump dump;
  Recognition recognition;
  dump.tensors.push_back({"k", DType::f16, {1, 1 << 20, 2048}});
  recognition.tensors.push_back({Role::key, 0, Axes("HTD"), "test"});
  const auto plan = [&](std::string_view restart) {
    return make_plan(dump, recognition, RuleSet::parse(with_restart("key = carry,uniform,rans", restart), "test"), {});
  };
  CHECK(plan("2048").parts == 2);  // of 2^30 values
  CHECK(plan("2048").frames == 4096);
  for (const std::string_view restart : {"2049", "all", "18446744073709551615"}) {
    try {
      plan(restart);
      FAIL("not refused");
    } catch (const Error& e) {
      CHECK(e.code() == ErrorCode::limit);
      CHECK(std::string(e.what()).find("restart = N") != std::string::npos);
    }
  }
  // What a file has not earned is not allocated: 2^30 values on payloads of a byte.
  const auto reader = sample_reader({{"k", DType::f16, {1, 8, 4}, Role::key, 0, "HTD"}});
  auto records = plain_records(compressed(*reader, options_of("restart = 2\nkey = carry,uniform,rans\n", 4)));
  Json header = Json::parse(header_text(records[0]));
  header["tensors"][0]["shape"] = {1, 16384, 65536};
  header["groups"][0]["head_dim"] = 65536;
  header["groups"][0]["chunk"] = 8192;
  records[0] = header_record(header.dump());
  check_refused(put_together(records, 1, kChainedFeature), ErrorCode::corrupt, "too few");
}

TEST_CASE("chained: plans and descriptions tell the stretches") {
  const auto reader = two_layers();
  const Plan plan =
      make_plan(reader->dump(), *reader->recognition(),
                RuleSet::parse("restart = 5\nkey = carry,uniform,rans\nvalue = uniform,rans", "test"), kChunk);
  CHECK(plan.frames == 1 + 4 * 12 + 1);
  CHECK(plan.parts == 1 + 2 * (3 + 12) + 1);
  std::uint64_t next = 0;
  for (std::uint64_t p = 0; p < plan.parts; ++p) {
    const Part part = plan.part(reader->dump(), p);
    const auto [first, last] = plan.frames_of(part);
    CHECK(first == next);
    next = last;
    std::uint64_t rows = 0;
    for (std::uint64_t f = first; f < last; ++f) {
      CHECK(plan.group_of(f) == part.group);
      rows += plan.shape(reader->dump(), plan.groups[part.group], f).rows;
    }
    CHECK(plan.shape(reader->dump(), part).rows == rows);
  }
  CHECK(next == plan.frames);
  const MemoryFile file(chained(*reader, "5", "key = carry,uniform,rans\nvalue = uniform,rans"));
  const auto opened = open_kvz(file.path());
  CHECK(opened->traits().chunk_tokens == 5 * kChunk);
  std::vector<std::uint64_t> restarts;
  for (const KvzGroup& group : opened->summary().groups) restarts.push_back(group.restart);
  CHECK(restarts == std::vector<std::uint64_t>{0, 5, 0, 5, 0, 0});
  // The default; and what has no chained stage says nothing of restarts, whatever the preset does.
  const auto described = [&](std::string_view rules) {
    const MemoryFile other(compressed(*reader, options_of(rules, kChunk)));
    return open_kvz(other.path())->description().groups[1].restart;
  };
  CHECK(described("key = carry,uniform,rans") == 16);
  const Bytes plain = compressed(*reader, options_of("restart = 3\nkey = uniform,rans", kChunk));
  CHECK(plain == compressed(*reader, options_of("key = uniform,rans", kChunk)));
  CHECK(prelude_of(plain).minor == 0);
  CHECK(prelude_of(plain).features == 0);
}

TEST_CASE("rules: restart is a number of frames or all") {
  const auto restart = [](std::string_view line) {
    return RuleSet::parse(fmt::format("{}\nkey = carry,quant,pack", line), "test").restart;
  };
  CHECK_FALSE(restart(""));
  CHECK(restart("restart = 7") == 7);
  CHECK(restart("restart=all # never") == 0);
  for (const char* line : {"restart = 0", "restart = -1", "restart =", "restart = few", "restart = 1.5"}) {
    CHECK_THROWS_AS(restart(line), Error);
  }
  for (const char* text : {"restart = 7\n", "restart = all\n", ""}) {
    const RuleSet set = RuleSet::parse(std::string(text) + "key = carry,quant,pack", "test");
    CHECK(RuleSet::parse(set.text(), "test").restart == set.restart);
  }
}

}  // namespace kvzip::test
