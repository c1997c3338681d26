// SPDX-License-Identifier: Apache-2.0
// Targets on small dumps, each measured again on the container that comes out.
#include <doctest/doctest.h>
#include <fmt/format.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "formats/file.hpp"
#include "kvzip/error.hpp"
#include "src/synth/synth.hpp"
#include "src/tune/target.hpp"
#include "tests/contract/sample_dumps.hpp"

namespace kvzip::tool {
namespace {

using test::MemoryFile;

SynthOptions small(std::uint32_t queries = 0) {
  SynthOptions o;
  o.layers = 3, o.heads = 2, o.head_dim = 32, o.tokens = 320, o.query_heads = queries;
  return o;
}

std::unique_ptr<test::MemoryReader> in_memory(SynthReader& synth) {
  auto reader = std::make_unique<test::MemoryReader>(Dump(synth.dump()), 1 << 16);
  for (std::size_t i = 0; i < synth.dump().tensors.size(); ++i) {
    const TensorInfo& info = synth.dump().tensors[i];
    synth.read({i, std::vector<std::uint64_t>(info.shape.size(), 0), info.shape}, reader->data(i));
  }
  reader->stated = recognise(synth.dump());
  return reader;
}
std::unique_ptr<test::MemoryReader> in_memory(const SynthOptions& options) {
  SynthReader synth(options);
  return in_memory(synth);
}

struct Outcome {
  bool met = false;
  std::string said;
  Bytes container;
  KvzSummary summary;
  std::vector<Bytes> decoded;

  double encodes() const {  // "... work of 7.5 encodes in ..."
    const auto at = said.find("work of ");
    return at == std::string::npos ? 1e9 : std::stod(said.substr(at + 8));
  }
};

std::unique_ptr<const Goal> goal(std::string_view name, double wanted) {
  for (const GoalKind& kind : goal_kinds()) {
    if (kind.name == name) return kind.make(wanted);
  }
  FAIL("no such goal");
  return nullptr;
}

Outcome find(test::MemoryReader& reader, const std::unique_ptr<const Goal>& goal, unsigned threads = 1) {
  KvzOptions base;
  const TargetOutcome outcome = find_target(reader, *reader.recognition(), *goal, {}, base, threads, true);
  Outcome out{outcome.met, outcome.said, test::compressed(reader, outcome.options, threads), {}, {}};
  const MemoryFile file(out.container);
  const auto kvz = open_kvz(file.path());
  out.summary = kvz->summary();
  out.decoded = test::values_of(*kvz);
  return out;
}

double source_bytes(const test::MemoryReader& reader) {
  double bytes = 0;
  for (const Bytes& tensor : test::originals(reader)) bytes += static_cast<double>(tensor.size());
  return bytes;
}

std::vector<float> floats(const test::MemoryReader& reader, const std::vector<Bytes>& data, std::size_t i) {
  const DType type = reader.dump().tensors[i].dtype;
  return test::floats_of(type, data[i]);
}

/// sqrt(sum (a - b)^2 / sum a^2) over all tensors of a role.
double nrmse_of(const test::MemoryReader& reader, const Outcome& found, Role role) {
  const std::vector<Bytes> originals = test::originals(reader);
  double squares = 0, energy = 0;
  for (std::size_t i = 0; i < originals.size(); ++i) {
    if (reader.stated->tensors[i].role != role) continue;
    const auto a = floats(reader, originals, i), b = floats(reader, found.decoded, i);
    for (std::size_t n = 0; n < a.size(); ++n) {
      squares += (static_cast<double>(a[n]) - b[n]) * (static_cast<double>(a[n]) - b[n]);
      energy += static_cast<double>(a[n]) * a[n];
    }
  }
  return std::sqrt(squares / energy);
}

bool holds(const test::MemoryReader& reader, const Outcome& found, double bound) {
  const std::vector<Bytes> originals = test::originals(reader);
  for (std::size_t i = 0; i < originals.size(); ++i) {
    if (!is_codable_float(reader.dump().tensors[i].dtype)) continue;
    const auto a = floats(reader, originals, i), b = floats(reader, found.decoded, i);
    for (std::size_t n = 0; n < a.size(); ++n) {
      if (a[n] == b[n] || (std::isnan(a[n]) && std::isnan(b[n]))) continue;
      if (!(std::fabs(static_cast<double>(a[n]) - b[n]) <= bound)) return false;
    }
  }
  return true;
}

// Curves 4, transforms 0.7, trials at most 7, the pre-trial of other bytes 1, attention 4, the file itself 1.
constexpr double kMostEncodes = 18, kUsualEncodes = 13;

TEST_CASE("targets: sizes are met within a hundredth, all in") {
  const auto reader = in_memory(small());
  for (const double ratio : {3.0, 5.0}) {
    CAPTURE(ratio);
    const Outcome f = find(*reader, goal("ratio", ratio));
    CAPTURE(f.said);
    CHECK(f.met);
    CHECK(source_bytes(*reader) / static_cast<double>(f.container.size()) == doctest::Approx(ratio).epsilon(0.01));
    CHECK(f.summary.results->target == "ratio");
    CHECK(f.summary.results->wanted == ratio);
    CHECK(f.encodes() <= kUsualEncodes);
  }
  for (const double bits : {2.0, 4.0}) {
    CAPTURE(bits);
    const Outcome f = find(*reader, goal("bits", bits));
    CAPTURE(f.said);
    CHECK(f.met);
    double values = 0, others = 0;
    for (const KvzGroup& g : f.summary.groups) {
      const bool unit = g.role == Role::key || g.role == Role::value;
      values += unit ? static_cast<double>(g.values) : 0;
      others += unit ? 0 : static_cast<double>(g.coded_bytes);
    }
    const double reached = (static_cast<double>(f.container.size()) - others) * 8 / values;
    CHECK(reached == doctest::Approx(bits).epsilon(0.01));
    CHECK(f.encodes() <= kUsualEncodes);
  }
}

TEST_CASE("targets: errors of keys and of values are met within a hundredth") {
  const auto reader = in_memory(small());
  for (const double nrmse : {0.02, 0.2}) {
    CAPTURE(nrmse);
    const Outcome f = find(*reader, goal("nrmse", nrmse));
    CAPTURE(f.said);
    CHECK(f.met);
    CHECK(nrmse_of(*reader, f, Role::key) == doctest::Approx(nrmse).epsilon(0.0101));
    CHECK(nrmse_of(*reader, f, Role::value) == doctest::Approx(nrmse).epsilon(0.0101));
    CHECK(f.encodes() <= kUsualEncodes);
  }
}

TEST_CASE("targets: an error finer than the usual ladder is met, too") {
  SynthOptions o = small();
  o.dtype = DType::f32;
  const auto reader = in_memory(o);
  const Outcome f = find(*reader, goal("nrmse", 1e-5));
  CAPTURE(f.said);
  CHECK(f.met);
  CHECK(nrmse_of(*reader, f, Role::key) == doctest::Approx(1e-5).epsilon(0.0101));
  CHECK(nrmse_of(*reader, f, Role::value) == doctest::Approx(1e-5).epsilon(0.0101));
}

TEST_CASE("targets: attention with the dump's queries, measured again") {
  const auto reader = in_memory(small(4));
  const Outcome f = find(*reader, goal("attention", 0.05));
  CAPTURE(f.said);
  CHECK(f.met);
  FidelityOptions options;
  options.proxies = false;
  FidelityMeter meter(*reader, *reader->recognition(), options);
  const MemoryFile file(f.container);
  const Fidelity fidelity = meter.measure(*open_kvz(file.path()));
  REQUIRE(fidelity.all.attention);
  CHECK(fidelity.all.attention->output_nrmse == doctest::Approx(0.05).epsilon(0.0101));
  REQUIRE(f.summary.results->attention);
  CHECK(f.summary.results->attention->output_nrmse == doctest::Approx(fidelity.all.attention->output_nrmse));
  CHECK(f.summary.results->attention->kl == doctest::Approx(fidelity.all.attention->kl));
  CHECK(f.encodes() <= kMostEncodes);
  // Queries come back bit for bit.
  for (std::size_t i = 0; i < f.decoded.size(); ++i) {
    if (reader->stated->tensors[i].role == Role::query) CHECK(f.decoded[i] == reader->data(i));
  }
}

TEST_CASE("targets: a bound holds for every value, and is stored") {
  for (const DType type : {DType::f16, DType::bf16, DType::f32}) {
    SynthOptions o = small();
    o.dtype = type;
    const auto reader = in_memory(o);
    for (const double bound : {0.001, 0.05, 0.5}) {
      CAPTURE(dtype_name(type));
      CAPTURE(bound);
      const Outcome f = find(*reader, goal("max-error", bound));
      CAPTURE(f.said);
      CHECK(f.met);
      CHECK(holds(*reader, f, bound));
      CHECK(f.summary.results->max_error == bound);
      CHECK(f.encodes() <= kMostEncodes);
    }
  }
}

TEST_CASE("targets: a bound costs a unit with one hard tile that tile") {
  // Eight tiles a unit; in one of layer 0 a number that no step of the bound's size can code.
  SynthOptions o = small();
  o.dtype = DType::f32, o.tokens = 2048, o.layers = 1;
  const auto reader = in_memory(o);
  const std::size_t plain = find(*reader, goal("max-error", 0.01)).container.size();
  std::size_t key = 0;
  while (reader->stated->tensors[key].role != Role::key) ++key;
  const float large = 1e30f;
  std::memcpy(reader->data(key).data() + 4000, &large, sizeof large);
  const Outcome f = find(*reader, goal("max-error", 0.01));
  CAPTURE(f.said);
  CHECK(holds(*reader, f, 0.01));
  const std::size_t tile = 256 * 64 * sizeof(float);
  CHECK(f.container.size() < plain + tile);
}

TEST_CASE("targets: no error at all is lossless") {
  const auto reader = in_memory(small());
  for (const auto which : {"nrmse", "max-error"}) {
    const Outcome f = find(*reader, goal(which, 0));
    CHECK(f.met);
    CHECK(f.decoded == test::originals(*reader));
    CHECK(f.encodes() <= 3);
  }
}

TEST_CASE("targets: out of reach gives the closest and says so") {
  const auto reader = in_memory(small());
  const Outcome f = find(*reader, goal("ratio", 5000));
  CHECK_FALSE(f.met);
  const double reached = source_bytes(*reader) / static_cast<double>(f.container.size());
  CHECK(reached > 30);
  CHECK(reached < 5000);
  CHECK(f.said.find(fmt::format("reached {:.4g}", reached)) != std::string::npos);
}

TEST_CASE("targets: what cannot be searched is refused") {
  auto none = test::sample_reader({{"n", DType::i32, {4}, Role::other, {}, ""}});
  CHECK_THROWS_WITH_AS(find(*none, goal("ratio", 2)), doctest::Contains("no keys or values"), Error);
  const auto reader = in_memory(small());
  CHECK_THROWS_WITH_AS(find(*reader, goal("attention", 0.1)), doctest::Contains("--queries"), Error);
}

TEST_CASE("targets: odd dumps have answers") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const auto filled = [](test::MemoryReader& r, std::size_t tensor, float value) {
    std::vector<float> values(r.data(tensor).size() / sizeof(float), value);
    std::memcpy(r.data(tensor).data(), values.data(), r.data(tensor).size());
  };
  for (const std::string what : {"one token", "constant", "nan layer", "outlier layer", "no tokens"}) {
    CAPTURE(what);
    const std::uint64_t tokens = what == "one token" ? 1 : what == "no tokens" ? 0 : 300;
    const auto reader = test::sample_reader(test::sample_specs(3, tokens, DType::f32, 2, 16));
    if (what == "constant") {
      for (std::size_t i = 1; i < 7; ++i) filled(*reader, i, 0.75f);
    }
    if (what == "nan layer") filled(*reader, 3, nan);
    if (what == "outlier layer") {
      const float large = 1e20f;
      std::memcpy(reader->data(3).data() + 400, &large, sizeof large);
    }
    if (what == "no tokens") {
      CHECK_THROWS_AS(find(*reader, goal("nrmse", 0.1)), Error);
      continue;
    }
    const Outcome nrmse = find(*reader, goal("nrmse", 0.1));
    CAPTURE(nrmse.said);
    CHECK(nrmse.met);
    if (what != "nan layer") CHECK(nrmse_of(*reader, nrmse, Role::key) <= 0.101);
    const Outcome bound = find(*reader, goal("max-error", 0.1));
    CHECK(bound.met);
    CHECK(holds(*reader, bound, 0.1));
    const Outcome bits = find(*reader, goal("bits", 6));
    CHECK(bits.container.size() > 0);
  }
}

TEST_CASE("targets: the outcome does not depend on threads") {
  const auto reader = in_memory(small(4));
  for (const auto& [which, value] :
       {std::pair("bits", 3.0), std::pair("attention", 0.1), std::pair("max-error", 0.05)}) {
    CHECK(find(*reader, goal(which, value), 1).container == find(*reader, goal(which, value), 4).container);
  }
}

}  // namespace
}  // namespace kvzip::tool
