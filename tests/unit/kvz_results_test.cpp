// SPDX-License-Identifier: Apache-2.0
// The text of the record "results", and the difference that a bound is about.
#include "formats/kvz/kvz_results.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>

#include "kvzip/error.hpp"
#include "kvzip/metrics.hpp"

namespace kvzip {
namespace {

using Json = nlohmann::ordered_json;

KvzResults sample() {
  KvzResults r;
  r.target = "max-error";
  r.wanted = 0.1;
  r.max_error = 0.1;
  r.errors = {{Role::key, 123, 0.09, 0.05, 0.01}, {Role::value, 45, 0.08, 1.0 / 3, 2e-17}};
  r.attention = KvzResults::Attention{0.25, 1e-3, 450, 150};
  return r;
}

std::string edited(const std::function<void(Json&)>& edit) {
  Json json = Json::parse(write_kvz_results(sample()));
  edit(json);
  return json.dump();
}

template <typename T>
ByteView bytes_of(const std::vector<T>& v) {
  return std::as_bytes(std::span(v));
}

TEST_CASE("results: what is written is read again, to the last bit") {
  const KvzResults r = read_kvz_results(write_kvz_results(sample()));
  CHECK(r.target == "max-error");
  CHECK(r.wanted == 0.1);
  CHECK(r.max_error == 0.1);
  REQUIRE(r.errors.size() == 2);
  CHECK(r.errors[0].role == Role::key);
  CHECK(r.errors[0].values == 123);
  CHECK(r.errors[0].max_abs == 0.09);
  CHECK(r.errors[1].rmse == 1.0 / 3);
  CHECK(r.errors[1].nrmse == 2e-17);
  REQUIRE(r.attention);
  CHECK(r.attention->output_nrmse == 0.25);
  CHECK(r.attention->kl == 1e-3);
  CHECK(r.attention->split == 450);
  CHECK(r.attention->queries == 150);
  // Without what is optional.
  KvzResults few;
  few.target = "ratio";
  few.wanted = 4;
  const KvzResults again = read_kvz_results(write_kvz_results(few));
  CHECK(again.target == "ratio");
  CHECK_FALSE(again.max_error);
  CHECK(again.errors.empty());
  CHECK_FALSE(again.attention);
}

TEST_CASE("results: an error without bound is the largest number") {
  KvzResults r = sample();
  r.errors[0].nrmse = std::numeric_limits<double>::infinity();
  r.errors[1].rmse = std::nan("");
  const KvzResults again = read_kvz_results(write_kvz_results(r));
  CHECK(again.errors[0].nrmse == std::numeric_limits<double>::max());
  CHECK(again.errors[1].rmse == std::numeric_limits<double>::max());
}

TEST_CASE("results: members that are not known are skipped") {
  CHECK(read_kvz_results(edited([](Json& j) { j["later"] = {1, 2}, j["errors"]["query"] = 7; })).errors.size() == 2);
}

TEST_CASE("results: hostile texts are corrupt") {
  const std::vector<std::function<void(Json&)>> edits{
      [](Json& j) { j = Json::array(); },
      [](Json& j) { j = 4; },
      [](Json& j) { j.erase("target"); },
      [](Json& j) { j["target"] = "ratio"; },
      [](Json& j) { j["target"].erase("measure"); },
      [](Json& j) { j["target"]["measure"] = "beauty"; },
      [](Json& j) { j["target"]["measure"] = 3; },
      [](Json& j) { j["target"].erase("wanted"); },
      [](Json& j) { j["target"]["wanted"] = -0.1; },
      [](Json& j) { j["target"]["wanted"] = "0.1"; },
      [](Json& j) { j["target"]["wanted"] = nullptr; },
      [](Json& j) { j["target"]["wanted"] = 0.2; },  // not the bound
      [](Json& j) { j.erase("bound"); },
      [](Json& j) { j["bound"] = 0.1; },
      [](Json& j) { j["bound"]["max_abs"] = -1; },
      [](Json& j) { j["bound"] = Json::object(); },
      [](Json& j) { j.erase("errors"); },
      [](Json& j) { j["errors"] = Json::array(); },
      [](Json& j) { j["errors"]["key"] = nullptr; },
      [](Json& j) { j["errors"]["key"].erase("values"); },
      [](Json& j) { j["errors"]["key"]["values"] = -1; },
      [](Json& j) { j["errors"]["key"]["values"] = 1.5; },
      [](Json& j) { j["errors"]["value"]["nrmse"] = "small"; },
      [](Json& j) { j["errors"]["value"].erase("rmse"); },
      [](Json& j) { j["errors"]["value"]["max_abs"] = -1e-9; },
      [](Json& j) { j["attention"] = 1; },
      [](Json& j) { j["attention"].erase("kl"); },
      [](Json& j) { j["attention"]["kl"] = -1; },
      [](Json& j) { j["attention"]["split"] = -1; },
      [](Json& j) { j["attention"]["queries"] = 0.5; },
  };
  const auto refused = [](const std::string& text) {
    try {
      read_kvz_results(text);
      return false;
    } catch (const Error& e) {
      return e.code() == ErrorCode::corrupt && std::string(e.what()).starts_with("results");
    }
  };
  for (std::size_t i = 0; i < edits.size(); ++i) {
    CAPTURE(i);
    CHECK(refused(edited(edits[i])));
  }
  const std::string good = write_kvz_results(sample());
  for (std::size_t n = 0; n < good.size(); ++n) CHECK(refused(good.substr(0, n)));
  CHECK(refused(good + "x"));
  CHECK(refused("{\"target\":{\"measure\":\"ratio\",\"wanted\":1e999},\"errors\":{}}"));
  CHECK(refused("{\"target\":{\"measure\":\"ratio\",\"wanted\":NaN},\"errors\":{}}"));
  CHECK(refused("{\"target\":{\"measure\":\"\xff\",\"wanted\":1},\"errors\":{}}"));
  CHECK(refused("{\"deep\":" + std::string(30000, '[') + std::string(30000, ']') + "," + good.substr(1)));
  CHECK_FALSE(refused("{\"deep\":" + std::string(15, '[') + std::string(15, ']') + "," + good.substr(1)));
  CHECK(refused("{\"deep\":" + std::string(16, '[') + std::string(16, ']') + "," + good.substr(1)));
}

TEST_CASE("largest difference: in double, F64 as F64") {
  const std::vector<double> a{1, -2, 1e300, 4}, b{1, -2.5, 1e300, 4 + 1e-12};
  CHECK(largest_difference(DType::f64, bytes_of(a), DType::f64, bytes_of(b)) == 0.5);
  // As floats the two are equal.
  const std::vector<double> c{1}, d{1 + 1e-12};
  CHECK(largest_difference(DType::f64, bytes_of(c), DType::f64, bytes_of(d)) == d[0] - c[0]);
  // 2^24 and 2^24 - 1 less a half: a difference of floats would be rounded.
  const std::vector<float> e{16777216.0f, 1}, f{-0.5f, 1};
  CHECK(largest_difference(DType::f32, bytes_of(e), DType::f32, bytes_of(f)) == 16777216.5);
  const std::vector<double> g{16777216, 1.25};
  CHECK(largest_difference(DType::f64, bytes_of(g), DType::f32, bytes_of(e)) == 0.25);
  CHECK(largest_difference(DType::f32, {}, DType::f32, {}) == 0);
  CHECK_THROWS_AS(largest_difference(DType::f32, bytes_of(e), DType::f32, bytes_of(std::vector<float>{1})), Error);
}

TEST_CASE("largest difference: what is not finite must be the same on both sides") {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::nanf("");
  const auto of = [](float x, float y) {
    const std::vector<float> a{0.5f, x}, b{0.25f, y};
    return largest_difference(DType::f32, bytes_of(a), DType::f32, bytes_of(b));
  };
  CHECK(of(nan, nan) == 0.25);
  CHECK(of(-nan, nan) == 0.25);
  CHECK(of(inf, inf) == 0.25);
  CHECK(of(-inf, -inf) == 0.25);
  CHECK_FALSE(of(inf, -inf));
  CHECK_FALSE(of(inf, nan));
  CHECK_FALSE(of(inf, std::numeric_limits<float>::max()));
  CHECK_FALSE(of(1, nan));
  CHECK(of(-0.0f, 0.0f) == 0.25);
  CHECK(of(std::numeric_limits<float>::denorm_min(), 0) == 0.25);
  // Beyond one piece of the walk.
  std::vector<float> a(10000, 1), b(10000, 1);
  b[9999] = 3;
  CHECK(largest_difference(DType::f32, bytes_of(a), DType::f32, bytes_of(b)) == 2);
  b[4096] = nan;
  CHECK_FALSE(largest_difference(DType::f32, bytes_of(a), DType::f32, bytes_of(b)));
}

}  // namespace
}  // namespace kvzip
