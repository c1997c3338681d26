// SPDX-License-Identifier: Apache-2.0
// The arithmetic of measuring and the checks inside it. Nothing here depends on how fast the machine is.
#include <doctest/doctest.h>

#include "codec/fail.hpp"
#include "kvzip/layout.hpp"
#include "kvzip/rules.hpp"
#include "src/bench/bench.hpp"
#include "src/bench/bench_codecs.hpp"
#include "src/bench/bench_report.hpp"
#include "tests/support/memory_dump.hpp"

using namespace kvzip;
using namespace kvzip::tool;

namespace {

/// Two pieces, inverted; with a fault when asked for one.
class Inverter : public Codec {
 public:
  enum class Fault { none, wrong_value, unstable_encoder, unstable_decoder, throws };
  explicit Inverter(Fault fault, bool lossless = true) : fault_(fault), lossless_(lossless) {}

  std::size_t pieces() const override { return 2; }
  ByteView source(std::size_t piece) const override { return pieces_[piece]; }
  std::string piece_name(std::size_t piece) const override { return "piece " + std::to_string(piece); }
  bool exact(std::size_t) const override { return lossless_; }
  std::vector<std::uint64_t> step_bytes() const override { return {8}; }

  ByteView encode(std::size_t piece, std::span<double> steps) override {
    ++encoded;
    steps[0] += 1;
    coded_ = pieces_[piece];
    for (std::byte& b : coded_) b = ~b;
    if (fault_ == Fault::unstable_encoder) coded_[0] = static_cast<std::byte>(encoded);
    return coded_;
  }
  void decode(std::size_t piece, ByteView coded, std::span<std::byte> out, std::span<double>) override {
    ++decoded;
    if (fault_ == Fault::throws) fail(ErrorCode::truncated, "too short");
    std::ranges::transform(coded, out.begin(), [](std::byte b) { return ~b; });
    if (fault_ == Fault::wrong_value && piece == 1) out[3] ^= std::byte{1};
    if (fault_ == Fault::unstable_decoder) out[0] = static_cast<std::byte>(decoded);
  }

  std::size_t encoded = 0, decoded = 0;

 private:
  Fault fault_;
  bool lossless_;
  std::vector<Bytes> pieces_{Bytes(8, std::byte{7}), Bytes(8, std::byte{9})};
  Bytes coded_;
};

std::string failure(Inverter::Fault fault, bool lossless = true) {
  Inverter codec(fault, lossless);
  try {
    measure(codec, {3, 100});
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::corrupt);
    return error.what();
  }
  return {};
}

/// Passes that take the given seconds, in order; the last for ever.
std::vector<PassSeconds> repeated(const Effort& effort, std::vector<double> seconds) {
  std::size_t at = 0;
  return repeat(effort, [&](const TellPass&) { return PassSeconds{seconds[std::min(at++, seconds.size() - 1)]}; });
}

}  // namespace

TEST_CASE("bench: median, smallest and largest") {
  CHECK(median_of({}) == 0);
  CHECK(median_of({3}) == 3);
  CHECK(median_of({9, 1, 2}) == 2);
  CHECK(median_of({8, 1, 2, 4}) == 3);
  const Speed speed = speed_of(2'000'000'000, {1, 4, 2});
  CHECK(speed.median == 1);
  CHECK(speed.min == 0.5);
  CHECK(speed.max == 2);
  CHECK(speed.passes == 3);
  CHECK(speed_of(5, {}).passes == 0);
  CHECK(speed_of(5, {0}).median == 0);
}

TEST_CASE("bench: passes end at their number or their time, and a short first one does not count") {
  CHECK(repeated({10, 1}, {0.5, 0.01}).size() == 10);
  CHECK(repeated({10, 1}, {0.01}).front()[0] == 0.01);
  const auto timed = repeated({10, 1}, {0.9, 0.3});
  CHECK(timed.size() == 4);  // 1.2 s
  CHECK(timed.front()[0] == 0.3);
  const auto slow = repeated({10, 1}, {1.5, 0.1});
  REQUIRE(slow.size() == 1);
  CHECK(slow.front()[0] == 1.5);
  CHECK(repeated({1, 1}, {0.5, 0.2}).size() == 1);
  CHECK(repeated({5, 0}, {0.5}).size() == 1);
}

TEST_CASE("bench: a sound codec is measured") {
  Inverter codec(Inverter::Fault::none);
  const Measured m = measure(codec, {4, 1000});
  CHECK(codec.encoded == 2 * 5);
  CHECK(codec.decoded == 2 * 5);
  CHECK(m.source_bytes == 16);
  CHECK(m.encode.speed.passes == 4);
  CHECK(m.encode.steps.at(0).speed.median == doctest::Approx(8 / 2.0 / 1e9));
  CHECK(m.coded.at(1).at(0) == ~std::byte{9});
  CHECK(m.decoded.at(1).at(0) == std::byte{9});
}

TEST_CASE("bench: a round trip that fails is an error") {
  CHECK(failure(Inverter::Fault::none).empty());
  CHECK(failure(Inverter::Fault::wrong_value).find("piece 1: the round trip fails") != std::string::npos);
  CHECK(failure(Inverter::Fault::wrong_value, false).empty());
  CHECK(failure(Inverter::Fault::unstable_encoder, false).find("encoding it again") != std::string::npos);
  CHECK(failure(Inverter::Fault::unstable_decoder, false).find("decoding it again") != std::string::npos);
  Inverter thrower(Inverter::Fault::throws);
  CHECK_THROWS_AS(measure(thrower, {1, 1}), Error);
}

TEST_CASE("bench: ratios to other codecs") {
  const auto row = [](const char* name, const char* kind, double speed) {
    BenchRow r{name, kind, {}, {}, 0, {}};
    r.measured.encode.speed = {speed, speed, speed, 1};
    return r;
  };
  BenchFile file{"f", 1, 100, 50, {row("memcpy", "peer", 10), row("int4", "preset", 4), row("zstd -1", "peer", 0)}};
  CHECK(relative(file, file.rows[1], "memcpy", &Measured::encode) == 0.4);
  CHECK(relative(file, file.rows[0], "memcpy", &Measured::encode) == 1.0);
  CHECK_FALSE(relative(file, file.rows[1], "zstd -1", &Measured::encode));
  CHECK_FALSE(relative(file, file.rows[1], "int4", &Measured::encode));
  CHECK_FALSE(relative(file, file.rows[1], "memcpy", &Measured::decode));
}

TEST_CASE("bench: tiles, steps, errors and file size of a dump") {
  Dump dump;
  for (const char* name : {"layers.0.key", "layers.0.value", "layers.1.key", "layers.1.value"}) {
    dump.tensors.push_back({name, DType::f32, {2, 300, 8}});
  }
  dump.attributes.push_back(test::text_attribute("axes", "HTD"));
  test::MemoryReader reader(dump);
  for (std::size_t t = 0; t < dump.tensors.size(); ++t) {
    std::vector<float> values(reader.data(t).size() / sizeof(float));
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>((i * 37 + t) % 101) - 50;
    std::memcpy(reader.data(t).data(), values.data(), reader.data(t).size());
  }
  const Recognition recognition = recognise(dump);
  REQUIRE(recognition.recognised == 4);
  const RuleSet rules = RuleSet::parse(
      "key[0] = window:sink=4,quant:bits=8,pack\nkey[1] = quant:bits=4,ac\nvalue[*] = planes,zstd\n", "t");
  TiledDump tiled(reader, recognition, rules, {});
  CHECK(tiled.pieces() == 8);  // 256 and 44 tokens
  CHECK(tiled.source(0).size() == 256 * 16 * sizeof(float));
  CHECK(tiled.piece_name(1) == "preset t, tensor layers.0.key, tokens 256-299");

  Measured m = measure(tiled, {1, 1});
  std::string names;
  std::uint64_t quant = 0, window = 0;
  for (const Step& step : tiled.steps()) {
    names += fmt::format("{} {};", role_name(step.role), step.name);
    if (step.name == "quant") quant = step.bytes;
    if (step.name == "window") window = step.bytes;
  }
  CHECK(names == "key convert;key window;key quant;key ac;key pack;key frame;value planes;value zstd;value frame;");
  const std::uint64_t tensor = 2 * 300 * 8 * sizeof(float);
  CHECK(quant == 2 * tensor);
  CHECK(window == tensor);
  CHECK(m.encode.steps.size() == tiled.steps().size());

  const Errors errors = tiled.errors(m.decoded);
  CHECK(errors.value == 0.0);
  CHECK(errors.key.value() > 0);
  CHECK(errors.key.value() < 0.1);
  std::uint64_t payload = 0;
  for (const Bytes& coded : m.coded) payload += coded.size();
  std::vector<Bytes> other = m.decoded, coded = m.coded;
  CHECK(tiled.file_bytes(m.coded, m.decoded) > payload);
  other[0][0] ^= std::byte{1};
  CHECK_THROWS_AS(tiled.file_bytes(coded, other), Error);
}
