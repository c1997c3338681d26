// SPDX-License-Identifier: Apache-2.0
// What a writer measures and promises, checked on what comes back; and results that no reader accepts.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "tests/contract/hostile_containers.hpp"

namespace kvzip::test {
namespace {

KvzOptions with_results(std::string_view rules, std::optional<double> bound = {}) {
  KvzOptions options = options_of(rules, 16);
  options.results.emplace();
  options.results->target = bound ? "max-error" : "bits";
  options.results->wanted = bound.value_or(3);
  options.results->max_error = bound;
  return options;
}

std::vector<double> doubles_of(DType type, const Bytes& elements) {
  if (type != DType::f64) {
    const std::vector<float> floats = floats_of(type, elements);
    return {floats.begin(), floats.end()};
  }
  std::vector<double> out(elements.size() / sizeof(double));
  std::memcpy(out.data(), elements.data(), elements.size());
  return out;
}

/// Elements further than `bound` from their original, or not finite on one side only.
std::size_t beyond(const std::vector<double>& a, const std::vector<double>& b, double bound) {
  std::size_t count = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const bool same = a[i] == b[i] || (std::isnan(a[i]) && std::isnan(b[i]));
    count += !same && !(std::isfinite(a[i]) && std::isfinite(b[i]) && std::fabs(a[i] - b[i]) <= bound);
  }
  return count;
}

KvzSummary summary_of(const Bytes& container) {
  const MemoryFile file(container);
  return open_kvz(file.path())->summary();
}

RawRecord results_record(std::string_view text) {
  RawRecord r = header_record(text);
  r.type = record_type(RecordType::results);
  return r;
}
constexpr std::string_view kGood = R"({"target":{"measure":"ratio","wanted":2},"errors":{}})";

std::size_t place_of_index(const std::vector<RawRecord>& records) {
  std::size_t at = 0;
  while (records[at].type != record_type(RecordType::index)) ++at;
  return at;
}

}  // namespace

TEST_CASE("results: a bound holds for every value, whatever the pipeline does") {
  for (const DType type : {DType::f16, DType::bf16, DType::f32, DType::f64}) {
    for (const Fill fill : kFills) {
      for (const double bound : {0.0, 1e-6, 0.05, 3.0}) {
        CAPTURE(dtype_name(type));
        CAPTURE(static_cast<int>(fill));
        CAPTURE(bound);
        auto reader = sample_reader(sample_specs(2, 40, type), fill);
        const Bytes container = compressed(
            *reader, with_results("key = quant:bits=2,pack\nvalue = uniform:step=0.1:points=centroid,rans", bound));
        const std::vector<Bytes> decoded = decompressed(container);
        std::size_t broken = 0;
        for (std::size_t i = 1; i < 5; ++i) {
          broken += beyond(doubles_of(type, reader->data(i)), doubles_of(type, decoded[i]), bound);
        }
        CHECK(broken == 0);
        const KvzSummary summary = summary_of(container);
        REQUIRE(summary.results);
        CHECK(summary.results->max_error == bound);
      }
    }
  }
}

TEST_CASE("results: only tiles that break the bound are stored as they are") {
  auto reader = sample_reader(sample_specs(1, 48, DType::f32), Fill::constant);
  // Frames of 16 tokens: the second of three has one value that two bits cannot reach beside the others.
  std::vector<float> values = floats_of(DType::f32, reader->data(1));
  const std::size_t head = 48 * 4;
  for (std::size_t t = 0; t < 48; ++t) {
    for (std::size_t d = 0; d < 4; ++d) values[t * 4 + d] = values[head + t * 4 + d] = static_cast<float>(d);
  }
  values[20 * 4] = 1000, values[21 * 4] = 333, values[22 * 4] = 100;
  std::memcpy(reader->data(1).data(), values.data(), values.size() * sizeof(float));
  const Bytes container = compressed(*reader, with_results("key = quant:bits=2:axis=channel,pack", 0.01));
  const KvzSummary summary = summary_of(container);
  for (const KvzGroup& group : summary.groups) {
    if (group.role != Role::key) continue;
    CHECK(group.frames == 3);
    CHECK(group.raw_frames == 1);
  }
  CHECK(beyond(doubles_of(DType::f32, reader->data(1)), doubles_of(DType::f32, decompressed(container)[1]), 0.01) == 0);
}

TEST_CASE("results: stored errors are those of the decoded file") {
  for (const DType type : {DType::f16, DType::bf16, DType::f32}) {
    auto reader = sample_reader(sample_specs(3, 40, type));
    const Bytes container =
        compressed(*reader, with_results("key = quant:bits=2,pack\nvalue = quant:bits=4:axis=token,ac"));
    const std::vector<Bytes> decoded = decompressed(container);
    const KvzSummary summary = summary_of(container);
    REQUIRE(summary.results);
    REQUIRE(summary.results->errors.size() == 2);
    for (std::size_t side = 0; side < 2; ++side) {
      const KvzResults::Errors& stored = summary.results->errors[side];
      CHECK(stored.role == (side == 0 ? Role::key : Role::value));
      double worst = 0, squares = 0, energy = 0;
      std::uint64_t values = 0;
      for (std::size_t i = 1 + side; i < 7; i += 2) {
        const auto a = doubles_of(type, reader->data(i)), b = doubles_of(type, decoded[i]);
        for (std::size_t n = 0; n < a.size(); ++n) {
          worst = std::max(worst, std::fabs(a[n] - b[n]));
          squares += (a[n] - b[n]) * (a[n] - b[n]);
          energy += a[n] * a[n];
        }
        values += a.size();
      }
      CHECK(stored.values == values);
      CHECK(stored.max_abs == doctest::Approx(worst).epsilon(1e-6));
      CHECK(stored.rmse == doctest::Approx(std::sqrt(squares / static_cast<double>(values))).epsilon(1e-6));
      CHECK(stored.nrmse == doctest::Approx(std::sqrt(squares / energy)).epsilon(1e-6));
    }
  }
}

TEST_CASE("results: bytes do not depend on threads; nothing is measured of an empty dump") {
  auto reader = sample_reader(sample_specs(3, 100));
  const KvzOptions options = with_results("key = quant:bits=2,pack\nvalue = uniform:step=0.1,rans", 0.1);
  const Bytes one = compressed(*reader, options, 1);
  CHECK(compressed(*reader, options, 5) == one);
  auto empty = sample_reader(sample_specs(1, 0));
  const KvzSummary summary = summary_of(compressed(*empty, options));
  REQUIRE(summary.results);
  CHECK(summary.results->errors.empty());
}

TEST_CASE("results: read by index and from a stream, at their place only, and once") {
  const std::size_t index = place_of_index(sample_records());
  const auto put = [&](std::size_t where, std::size_t count, const RawRecord& record) {
    return with_records([&](auto& r) { r.insert(r.begin() + static_cast<std::ptrdiff_t>(where), count, record); });
  };
  const RawRecord good = results_record(kGood);
  CHECK_FALSE(by_index(put(index, 1, good)).code);
  CHECK_FALSE(as_stream(put(index, 1, good)).code);
  CHECK(summary_of(put(index, 1, good)).results->wanted == 2);
  const MemoryFile sound(put(index, 1, good));
  CHECK(verify_kvz(sound.path(), 1, {}).empty());
  check_refused(put(index, 2, good), ErrorCode::corrupt, "twice");
  check_refused(put(1, 1, good), ErrorCode::corrupt, "between the last frame and the index");
  check_refused(put(3, 1, good), ErrorCode::corrupt, "between the last frame and the index");
  check_refused(put(index + 1, 1, good), ErrorCode::corrupt, "between the last frame and the index");
}

TEST_CASE("results: what says nothing or too much is refused") {
  const std::size_t index = place_of_index(sample_records());
  const auto with = [&](const RawRecord& record) {
    return with_records([&](auto& r) { r.insert(r.begin() + static_cast<std::ptrdiff_t>(index), record); });
  };
  check_refused(with(results_record("")), ErrorCode::corrupt, "results");
  check_refused(with(results_record("{}")), ErrorCode::corrupt, "results");
  check_refused(with(results_record(std::string(60000, '['))), ErrorCode::corrupt, "nested");
  check_refused(with(results_record(std::string(70000, ' '))), ErrorCode::corrupt, "results of 70000 bytes");
  RawRecord flagged = results_record(kGood);
  flagged.flags = 1;
  check_refused(with(flagged), ErrorCode::unsupported, "flags");
  RawRecord lengths = results_record(kGood);
  lengths.decoded = 7;
  check_refused(with(lengths), ErrorCode::corrupt, "lengths");
  const MemoryFile nonsense(with(results_record("{}")));
  CHECK(verify_kvz(nonsense.path(), 1, {}).size() == 1);
}

}  // namespace kvzip::test
